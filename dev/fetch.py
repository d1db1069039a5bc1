"""Fetches what the development servers need into .dev/tools: jars of Kafka and ZooKeeper, the ClickHouse engine, and its
launcher."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections import namedtuple

import process
from command import DEV, STATE, Failure, run, say, shown, step

KAFKA_VERSION = "4.3.1"
KAFKA_SHA256 = (
    "181773846aef5605874086222d4c3b7b0b21362b02b1877da99d1a0eaabfbbc8"  # of the sorted "sha256 name" lines of its jars
)
JAVA_AT_LEAST = 17

ZOOKEEPER_VERSION = "3.9.5"
ZOOKEEPER_SHA256 = "e626ec87d1ab380638b1c943005a05058432312e1bcc3974965f9e11f99cb855"  # likewise

CHDB_VERSION = "26.7.3-stable.1"  # its engine is ClickHouse 26.7.2
# npm package and sha256 of the library in it; None where nobody has verified it yet (npm checks its own sum anyway).
CHDB_LIBRARIES = {
    ("Linux", "x86_64"): (
        "@chdb/lib-linux-x64-gnu",
        "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
    ),
    ("Linux", "aarch64"): ("@chdb/lib-linux-arm64-gnu", None),
    ("Darwin", "arm64"): ("@chdb/lib-darwin-arm64", None),
    ("Darwin", "x86_64"): ("@chdb/lib-darwin-x64", None),
}

DISK_BYTES = 2 * 10**9
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


def places():
    """Where the tools are once fetched. The names carry the versions: what is there under its name is whole."""
    source = hashlib.sha256(b"".join(file.read_bytes() for file in LAUNCHER_SOURCES)).hexdigest()[:12]
    return Tools(
        TOOLS / f"kafka-{KAFKA_VERSION}",
        TOOLS / f"zookeeper-{ZOOKEEPER_VERSION}",
        TOOLS / f"chdb-{CHDB_VERSION}",
        TOOLS / f"clickhouse-server-{source}",
    )


def fetch():
    """Returns the tools; fetches only what is missing."""
    tools = places()
    missing = [place for place in tools if not place.exists()]
    if not missing:
        return tools
    lock = process.lock(STATE / "fetch.lock")
    if lock is None:
        say("waiting for another fetch in this checkout to end")
        lock = process.lock(STATE / "fetch.lock", 1800)
        if lock is None:
            raise Failure("another fetch in this checkout has not ended in 30 minutes; stop it and try again")
    try:
        fetch_missing(tools)
    finally:
        os.close(lock)
    return tools


def fetch_missing(tools):
    """Makes each missing tool in a temporary folder and renames it into place, so that a kill leaves nothing half."""
    temporary = STATE / "fetching"  # ours alone: fetch holds the lock
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    TOOLS.mkdir(parents=True, exist_ok=True)
    try:
        wanted = [
            (place, make)
            for place, make in zip(tools, (fetch_kafka, fetch_zookeeper, fetch_engine, build_launcher))
            if not place.exists()
        ]
        if any(make is not build_launcher for _, make in wanted):
            need_disk()
        for place, make in wanted:
            make(temporary).rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def need_disk():
    free = shutil.disk_usage(STATE).free
    if free < DISK_BYTES:
        wanted = f"{DISK_BYTES / 1e9:.0f} GB"
        raise Failure(
            f"cannot fetch into {shown(STATE)}: {free / 1e9:.1f} GB of disk are free, {wanted} are needed; make room"
        )


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            raise Failure(f"{program} is not installed or not on the PATH; install {GET[program]} and try again")


def need_java():
    need("java")
    answer = subprocess.run(["java", "-version"], capture_output=True, text=True)
    found = re.search(r'version "(\d+)', answer.stderr)
    if not found:
        raise Failure(f"java -version does not say which version it is; install {GET['java']} and try again")
    if int(found[1]) < JAVA_AT_LEAST:
        raise Failure(f"java is version {found[1]}, Kafka needs {JAVA_AT_LEAST}; install {GET['java']} and try again")


def fetch_kafka(temporary):
    return fetch_jars(temporary, "kafka", KAFKA_VERSION, KAFKA_SHA256, "55 MB")


def fetch_zookeeper(temporary):
    return fetch_jars(temporary, "zookeeper", ZOOKEEPER_VERSION, ZOOKEEPER_SHA256, "7 MB")


def fetch_jars(temporary, name, version, expected, size):
    need_java()
    need("mvn")
    jars = temporary / name
    step(
        f"fetch {name} {version} with maven ({size})",
        [
            "mvn",
            "-q",
            "-B",
            "-C",
            "-f",
            DEV / f"{name}-pom.xml",
            f"-D{name}.version={version}",
            "dependency:copy-dependencies",
            f"-DoutputDirectory={jars}",
        ],
        temporary / "mvn.log",
    )
    sums = sorted(f"{sha256(jar)} {jar.name}" for jar in jars.glob("*.jar"))
    verify(f"{name} {version} ({len(sums)} jars)", hashlib.sha256("\n".join(sums).encode()).hexdigest(), expected)
    return jars


def fetch_engine(temporary):
    need("node", "npm")
    machine = (platform.system(), platform.machine())
    if machine not in CHDB_LIBRARIES:
        raise Failure(f"there is no ClickHouse engine for {' '.join(machine)}; use a ClickHouse server of your own")
    package, expected = CHDB_LIBRARIES[machine]
    step(
        f"fetch the clickhouse engine with npm ({package} {CHDB_VERSION}, 178 MB)",
        ["npm", "pack", "--loglevel=error", "--pack-destination", temporary, f"{package}@{CHDB_VERSION}"],
        temporary / "npm.log",
        cwd=temporary,
    )
    folder = temporary / "engine"
    folder.mkdir()
    unpack_library(next(temporary.glob("*.tgz")), folder / "libchdb")
    verify(f"{package} {CHDB_VERSION}", sha256(folder / "libchdb"), expected)
    return folder


def unpack_library(archive, target):
    """Takes the one file that is needed out of the package, whatever the package calls its folder."""
    say(f"unpack {archive.name} (566 MB)")
    with tarfile.open(archive) as package:
        for member in package:
            if member.isfile() and os.path.basename(member.name) in ("libchdb.so", "libchdb.dylib"):
                with package.extractfile(member) as source, open(target, "wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
                return
    raise Failure(f"{archive.name} holds no libchdb; choose another CHDB_VERSION in dev/fetch.py")


def build_launcher(temporary):
    need("cc")
    program = temporary / "clickhouse-server"
    step(
        "compile the clickhouse launcher with cc",
        [
            "cc",
            "-std=c11",
            "-O1",
            "-Wall",
            "-Wextra",
            "-pthread",
            "-rdynamic",  # the library is to find our abort()
            "-o",
            program,
            *(file for file in LAUNCHER_SOURCES if file.suffix == ".c"),
            *(["-ldl"] if sys.platform.startswith("linux") else []),
        ],
        temporary / "cc.log",
    )
    return program


def sha256(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            total.update(block)
    return total.hexdigest()


def verify(what, found, expected):
    if expected is None:
        say(f"{what}: not verified, nobody has pinned its sha256 for this platform yet (it is {found})")
    elif found != expected:
        raise Failure(f"{what} has sha256 {found}, expected {expected}: not used; see the constants in dev/fetch.py")


def main():
    tools = fetch()
    say(f"ready: kafka {KAFKA_VERSION} and the clickhouse engine of chdb {CHDB_VERSION} in {shown(tools.kafka.parent)}")
    return 0


if __name__ == "__main__":
    run(main)
