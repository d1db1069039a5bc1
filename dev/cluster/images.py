"""The images of the cluster, as archives in .dev/cluster/images: made here, because no registry is asked.

Servers that the pods need are those of dev/fetch.py under the names of the official images, with entry points of ours
that read the same configuration."""

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from dev import fetch
from dev.cluster import layout, oci, official_images, programs
from dev.command import DEV, ROOT, Failure, say, step

PAUSE = "registry.k8s.io/pause:3.10"
COREDNS = "registry.k8s.io/coredns/coredns:v1.13.1"
METRICS_SERVER = "registry.k8s.io/metrics-server/metrics-server:v0.8.0"
CERT_MANAGER = "quay.io/jetstack/cert-manager-controller:v1.19.4"
TOOLS = "docker.io/library/captcha-tools:1"  # a shell and netcat, for tests that ask from inside a pod

DIGEST_LENGTH = 12
SOURCES = DEV / "cluster" / "images"
LIBRARIES = Path("/lib/x86_64-linux-gnu")
LOADER = Path("/lib64/ld-linux-x86-64.so.2")
COMMANDS = """
sh cat cp cut date env grep head hostname id kill ls mkdir mv nc nslookup
printf ps rm sed sleep sort tail test timeout touch tr wget
"""
JAVA_MODULES = (
    "java.se,jdk.unsupported,jdk.crypto.ec,jdk.security.auth,jdk.security.jgss,jdk.management,jdk.zipfs,jdk.naming.dns"
)


def make(built):
    """Makes the archives that are missing."""
    tools = fetch.fetch(fetch.SERVERS)
    for folder in (layout.IMAGES, layout.LOGS):
        folder.mkdir(parents=True, exist_ok=True)
    image("pause", PAUSE, pause, ["/pause"])
    image("tools", TOOLS, shell, ["/bin/sh"])
    for program, name in (("coredns", COREDNS), ("metrics-server", METRICS_SERVER), ("cert-manager", CERT_MANAGER)):
        image(program, name, lambda root, file=built / program: shutil.copy(file, root), [f"/{program}"])
    server_image("kafka", official_images.KAFKA, kafka, tools)
    server_image("clickhouse", official_images.CLICKHOUSE, clickhouse, tools)


def server_image(archive, official, fill, tools):
    """A server under the name of the official image, with what that one has besides."""

    def fill_all(root):
        fill(root, tools)
        official_images.add(official, root)

    image(archive, official.image(), fill_all, [official.entrypoint], user=official.user)


def image(archive, name, fill, entrypoint, **options):
    """One archive, if it is not there: `fill` puts the files into a folder. Its name carries what it is made of."""
    file = layout.IMAGES / f"{archive}-{inputs()}.tar"
    if file.exists():
        return
    for old in layout.IMAGES.glob(f"{archive}-{'?' * DIGEST_LENGTH}.tar"):
        old.unlink()
    with tempfile.TemporaryDirectory(dir=layout.IMAGES) as folder:
        root = Path(folder)
        fill(root)
        oci.write_archive(name, root, file, entrypoint, **options)
    say(f"image {name}: {file.stat().st_size / 1e6:.0f} MB")


def inputs():
    """A digest of everything that images are made of."""
    sources = [path for path in sorted([Path(__file__), *SOURCES.rglob("*")]) if path.is_file()]
    named = [programs.folder().name, *(tool.name for tool in fetch.places())]
    data = b"".join([*(path.read_bytes() for path in sources), *(name.encode() for name in named)])
    return hashlib.sha256(data).hexdigest()[:DIGEST_LENGTH]


def pause(root):
    subprocess.run(["cc", "-Os", "-static", "-s", "-o", root / "pause", SOURCES / "pause" / "pause.c"], check=True)


def shell(root, libraries=()):
    """A shell with its commands, and libraries of this machine with their loader."""
    for folder in ("bin", "etc", "tmp", "data"):
        (root / folder).mkdir()
    busybox = shutil.which("busybox")
    shutil.copy(busybox, root / "bin" / "busybox")
    for word in COMMANDS.split():
        (root / "bin" / word).symlink_to("busybox")
    if libraries:
        for source in (LOADER, *(find_library(name) for name in libraries)):
            place = root / (str(source).lstrip("/") if source == LOADER else f"lib/x86_64-linux-gnu/{source.name}")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)


def find_library(name):
    for folder in (LIBRARIES, Path("/usr") / LIBRARIES.relative_to("/")):
        if (folder / name).exists():
            return folder / name
    raise Failure(f"cannot make an image: {name} is not in {LIBRARIES}")


def kafka(root, tools):
    libraries = "libc.so.6 libm.so.6 libz.so.1 libdl.so.2 libpthread.so.0 librt.so.1 libgcc_s.so.1 libstdc++.so.6"
    shell(root, libraries.split())
    java = root / "opt" / "java"
    java.parent.mkdir()
    options = ["--strip-debug", "--no-man-pages", "--no-header-files", "--output", java, "--add-modules", JAVA_MODULES]
    step("make a Java for Kafka's image", ["jlink", *options], layout.LOGS / "jlink.log")
    shutil.copytree(tools.kafka, root / "opt" / "kafka")


def clickhouse(root, tools):
    shell(root, ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"])
    place = root / "opt" / "clickhouse"
    place.mkdir(parents=True)
    engine = tools.engine if tools.engine.is_file() else tools.engine / "libchdb"
    shutil.copy(engine, place / "libchdb")
    shutil.copy(tools.launcher, root / "bin" / "clickhouse-server")
    shutil.copy(programs.folder() / "untls", root / "bin" / "untls")


def captcha(archive=None, tag=None):
    """The image of captcha: an archive of `make image`, or one that is put together of the static executable. Returns
    the executable that is in it."""
    tag = tag or version()
    file = layout.IMAGES / f"captcha-{tag}.tar"
    program = layout.FOLDER / "captcha"
    if archive:
        with tempfile.TemporaryDirectory(dir=layout.FOLDER) as folder:
            unpack(archive, Path(folder))
            shutil.copy2(Path(folder) / "captcha", program)
        if not file.exists() or file.stat().st_mtime_ns != archive.stat().st_mtime_ns:
            shutil.copy2(archive, file)
        return program
    step("build captcha", [DEV / "static.sh", program], layout.LOGS / "captcha-build.log")
    if not file.exists() or file.stat().st_mtime < program.stat().st_mtime:
        copy(program, tag)
    return program


def copy(program, tag):
    """An image of the executable under another version."""
    with tempfile.TemporaryDirectory(dir=layout.IMAGES) as folder:
        root = Path(folder)
        shutil.copy2(program, root / "captcha")
        certificates = Path("etc/ssl/certs/ca-certificates.crt")
        (root / certificates).parent.mkdir(parents=True)
        shutil.copy("/" / certificates, root / certificates)
        oci.write_archive(f"docker.io/library/captcha:{tag}", root, layout.IMAGES / f"captcha-{tag}.tar", ["/captcha"])


def unpack(archive, folder):
    """The files of an image, of an archive with one layer for each COPY."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "oci", filter="data")
    blobs = folder / "oci" / "blobs"
    (entry,) = json.loads((folder / "oci" / "index.json").read_text())["manifests"]
    manifest = json.loads((blobs / entry["digest"].replace(":", "/")).read_text())
    for layer in manifest["layers"]:
        with tarfile.open(blobs / layer["digest"].replace(":", "/")) as tar:
            tar.extractall(folder, filter="data")


def version():
    text = (ROOT / "Cargo.toml").read_text()
    return re.search(r'^version = "(.*)"', text, re.MULTILINE)[1]
