"""What makes our images of Kafka and ClickHouse behave as the official ones, as far as k8s/overlays/local uses them.

The official images cannot be fetched where these checks run. Ours have their names, users, entry points and paths, and
the servers of dev/fetch.py; so the cluster runs the overlay as it is."""

import re
import shutil
from typing import NamedTuple

from dev.command import DEV, ROOT, Failure, shown

SOURCES = DEV / "cluster" / "images"
TAGS = ROOT / "k8s" / "overlays" / "local" / "kustomization.yaml"


class Official(NamedTuple):
    name: str  # without the registry, and without the tag, which the overlay has
    user: str
    entrypoint: str
    files: dict  # path in the image -> file
    folders: tuple  # that the image has empty

    def image(self):
        """As a kubelet asks for it: with its registry and the tag of the overlay."""
        found = re.search(rf"name: {self.name}, newTag: ([\w.-]+)", TAGS.read_text())
        if not found:
            raise Failure(f"{shown(TAGS)} has no tag of {self.name}; give it one under images")
        return f"docker.io/{self.name}:{found[1]}"


KAFKA = Official(
    "apache/kafka",
    "1000:1000",
    "/etc/kafka/docker/run",
    {
        "/etc/kafka/docker/run": SOURCES / "kafka" / "entrypoint.sh",
        "/etc/kafka/docker/log4j2.yaml": DEV / "kafka-log4j2.yaml",
    },
    ("/opt/kafka/config", "/mnt/shared/config", "/var/lib/kafka/data"),
)
CLICKHOUSE = Official(
    "clickhouse/clickhouse-server",
    "101:101",
    "/entrypoint.sh",
    {
        "/entrypoint.sh": SOURCES / "clickhouse" / "entrypoint.sh",
        "/etc/clickhouse-server/config.xml": SOURCES / "clickhouse" / "config.xml",
        "/etc/clickhouse-server/users.xml": SOURCES / "clickhouse" / "users.xml",
    },
    ("/etc/clickhouse-server/config.d", "/etc/clickhouse-server/users.d", "/var/lib/clickhouse"),
)


def add(official, root):
    """Adds to a folder that has the server itself what the official image has besides."""
    for path in official.folders:
        (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for path, source in official.files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)  # with its mode: an entry point is executable
