"""Fetches what the development servers need into .dev/tools: jars of Kafka and ZooKeeper, the ClickHouse engine, and
its launcher. DEV_KAFKA=4.0 and DEV_CLICKHOUSE=25.8 choose other versions than the usual ones."""

import argparse
import hashlib
import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path

from dev import disk, jobs, process
from dev.command import DEV, STATE, Failure, run, say, shown, tail

Kafka = namedtuple("Kafka", "version sha256")
# The sha256 is of the sorted "sha256 name" lines of the jars. The oldest is README's floor, and so its first release;
# src/tested_versions.rs knows the newest.
KAFKAS = {
    "3.9": Kafka("3.9.0", "9c46ae3a7e347c4647eca562866d46b47c70057ae63624cc5b6a9497d1282ff9"),
    "4.0": Kafka("4.0.2", "1af9b90294e0170a8c2075d05e5afc2c34e8ee4d1b1463e77e794e0cb615093c"),
    "4.3": Kafka("4.3.1", "181773846aef5605874086222d4c3b7b0b21362b02b1877da99d1a0eaabfbbc8"),
    "4.4": Kafka("4.4.0", "bd16f66782a87f05b4307fe43078e3e4e3a7f392c64e4cd05ee4d58a71b48aab"),
}
JAVA_AT_LEAST = 17

ZOOKEEPER_VERSION = "3.9.5"
ZOOKEEPER_SHA256 = "e626ec87d1ab380638b1c943005a05058432312e1bcc3974965f9e11f99cb855"  # likewise

# The engine of a ClickHouse version, from the npm package of chdb or from one of its Python packages. `package` and
# `sha256` are for each platform: of the library in the npm package, or of the wheel; None where nobody has verified it
# yet (npm and pip check their own sums anyway).
Clickhouse = namedtuple("Clickhouse", "version source release packages")
CLICKHOUSES = {
    "25.8": Clickhouse(
        "25.8.2",
        "pip",
        "3.7.2",
        {("Linux", "x86_64"): ("chdb", "c119f0830c12438a4e4b60b8370859ba50992e8b1b01a8c681e1c57eeb2dc82d")},
    ),
    "26.7": Clickhouse(
        "26.7.2",
        "npm",
        "26.7.3-stable.1",
        {
            ("Linux", "x86_64"): (
                "@chdb/lib-linux-x64-gnu",
                "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
            ),
            ("Linux", "aarch64"): ("@chdb/lib-linux-arm64-gnu", None),
            ("Darwin", "arm64"): ("@chdb/lib-darwin-arm64", None),
            ("Darwin", "x86_64"): ("@chdb/lib-darwin-x64", None),
        },
    ),
    "26.9": Clickhouse(
        "26.9.2",
        "pip",
        "26.9.0",
        {("Linux", "x86_64"): ("chdb-core", "707e2ec3fe0f7953bac97942eaeb7a1ed1d66b1e56ecef3f0aa2130f61f6e735")},
    ),
}

# Without DEV_KAFKA and DEV_CLICKHOUSE in the environment, which every command here and every test passes on.
KAFKA = "4.3"
CLICKHOUSE = "26.7"

TOOLS = STATE / "tools"
LAUNCHER_SOURCES = [DEV / "clickhouse-server.c", DEV / "interserver.c", DEV / "interserver.h"]

GET = {
    "java": "openjdk-17-jre-headless or newer (macOS: brew install openjdk)",
    "mvn": "maven (macOS: brew install maven)",
    "npm": "npm, which comes with Node.js (macOS: brew install node)",
    "node": "nodejs (macOS: brew install node)",
    "cc": "gcc or clang (macOS: xcode-select --install)",
}

Tools = namedtuple("Tools", "kafka zookeeper engine launcher")

# Bytes that come over the network, with what Maven fetches for itself; bytes that stay in .dev/tools; and the programs
# that are needed for it.
Need = namedtuple("Need", "download stay programs")
NEEDS = Tools(
    Need(76 * 10**6, 57 * 10**6, ("java", "mvn")),
    Need(8 * 10**6, 8 * 10**6, ("java", "mvn")),
    Need(180 * 10**6, 566 * 10**6, ("npm", "node")),
    Need(0, 0, ("cc",)),
)
# Those that may be fetched at the same time; Maven wants its cache for itself.
GROUPS = (("launcher", "engine"), ("kafka", "zookeeper"))
SERVERS = ("kafka", "engine", "launcher")  # all but what tests of replicas need besides


def chosen(variable, versions, default):
    """The version that the environment asks for."""
    name = os.environ.get(variable) or default
    if name not in versions:
        raise Failure(f"{variable}={name} is not a version that is fetched; choose one of {', '.join(versions)}")
    return versions[name]


def kafka():
    return chosen("DEV_KAFKA", KAFKAS, KAFKA)


def clickhouse():
    return chosen("DEV_CLICKHOUSE", CLICKHOUSES, CLICKHOUSE)


def places():
    """Where the tools are once fetched. The names carry the versions: what is there under its name is whole."""
    source = hashlib.sha256(b"".join(file.read_bytes() for file in LAUNCHER_SOURCES)).hexdigest()[:12]
    return Tools(
        TOOLS / f"kafka-{kafka().version}",
        TOOLS / f"zookeeper-{ZOOKEEPER_VERSION}",
        TOOLS / f"chdb-{clickhouse().release}",
        TOOLS / f"clickhouse-server-{source}",
    )


def missing(names=Tools._fields):
    """Those of these tools that have to be fetched."""
    return [name for name in names if not getattr(places(), name).exists()]


def download_bytes(names):
    return sum(getattr(NEEDS, name).download for name in names)


def disk_bytes(names):
    """What the tools take while they are fetched: packed and unpacked."""
    return sum(getattr(NEEDS, name).download + getattr(NEEDS, name).stay for name in names)


def fetch(names=Tools._fields, also=()):
    """Returns the tools; fetches those of `names` that are missing, while the jobs of `also` run."""
    if not missing(names):
        jobs.together(also)
        return places()
    lock = process.lock(STATE / "fetch.lock")
    if lock is None:
        say("waiting for another fetch in this checkout to end")
        lock = process.lock(STATE / "fetch.lock", 1800)
        if lock is None:
            raise Failure("another fetch in this checkout has not ended in 30 minutes; stop it and try again")
    try:
        jobs.together([*downloads(missing(names), lock), *also])
    finally:
        shutil.rmtree(FETCHING, ignore_errors=True)
        os.close(lock)
    return places()


FETCHING = STATE / "fetching"  # of who holds the lock alone


def downloads(names, lock):
    """The jobs that fetch these tools. They hold the lock too: what they write is theirs until they have ended."""
    programs = {program for name in names for program in getattr(NEEDS, name).programs}
    if clickhouse().source == "pip":
        programs -= {"npm", "node"}
    need(*sorted(programs))
    disk.need(STATE, disk_bytes(names), "the fetch of " + " and ".join(names))
    shutil.rmtree(FETCHING, ignore_errors=True)
    FETCHING.mkdir(parents=True)
    TOOLS.mkdir(parents=True, exist_ok=True)
    for group in GROUPS:
        wanted = [name for name in group if name in names]
        if wanted:
            argv = [sys.executable, DEV / "download.py", *wanted]
            yield Download(argv, FETCHING / f"{wanted[0]}.log", pass_fds=(lock,))


class Download(jobs.Job):
    """A run of download.py."""

    def done(self):
        return "; ".join(line for line in tail(self.log, 400) if " fetched" in line and " of " not in line)

    def failure(self, code):
        folder = disk.fullest(STATE, Path.home())  # npm and maven have a cache there
        if disk.ran_out(self.log, folder):
            return disk.no_space(folder, disk_bytes(missing()), "the fetch of what is missing")
        return super().failure(code)


def need(*programs):
    """Fails if a program is not installed, and names all of those at once."""
    away = [program for program in programs if shutil.which(program) is None]
    if away:
        what = f"{', '.join(away)} {'is' if len(away) == 1 else 'are'} not installed or not on the PATH"
        raise Failure(f"{what}; install {', '.join(GET[program] for program in away)} and try again")


def main():
    argparse.ArgumentParser(prog="fetch.py", description=__doc__).parse_args()
    tools = fetch()
    say(f"ready: kafka {kafka().version} and clickhouse {clickhouse().version} in {shown(tools.kafka.parent)}")
    return 0


if __name__ == "__main__":
    run(main)
