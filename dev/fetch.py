"""Fetches what the development servers need into .dev/tools: jars of Kafka and ZooKeeper, the ClickHouse engine, and its
launcher. DEV_KAFKA=4.0 and DEV_CLICKHOUSE=25.8 choose other versions than the usual ones."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import namedtuple

import process
from command import DEV, STATE, Failure, run, say, shown, step

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
    wanted = kafka()
    return fetch_jars(temporary, "kafka", wanted.version, wanted.sha256, "55 MB")


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
    wanted = clickhouse()
    machine = (platform.system(), platform.machine())
    if machine not in wanted.packages:
        raise Failure(
            f"there is no ClickHouse {wanted.version} for {' '.join(machine)}; use a ClickHouse server of your own"
        )
    package, expected = wanted.packages[machine]
    folder = temporary / "engine"
    folder.mkdir()
    fetch_from = {"npm": fetch_from_npm, "pip": fetch_from_pip}[wanted.source]
    fetch_from(temporary, folder, package, wanted.release, expected)
    return folder


def fetch_from_npm(temporary, folder, package, release, expected):
    need("node", "npm")
    step(
        f"fetch the clickhouse engine with npm ({package} {release}, 178 MB)",
        ["npm", "pack", "--loglevel=error", "--pack-destination", temporary, f"{package}@{release}"],
        temporary / "npm.log",
        cwd=temporary,
    )
    unpack_library(next(temporary.glob("*.tgz")), folder / "libchdb")
    verify(f"{package} {release}", sha256(folder / "libchdb"), expected)


def fetch_from_pip(temporary, folder, package, release, expected):
    venv = temporary / "venv"  # some systems have pip nowhere else
    step("make a place for pip", [sys.executable, "-m", "venv", venv], temporary / "venv.log")
    step(
        f"fetch the clickhouse engine with pip ({package} {release}, 180 MB)",
        [
            venv / "bin" / "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            temporary,
            f"{package}=={release}",
        ],
        temporary / "pip.log",
    )
    wheel = next(temporary.glob("*.whl"))
    verify(f"{package} {release}", sha256(wheel), expected)
    say(f"unpack {wheel.name}")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.endswith(".so")])


def unpack_library(archive, target):
    """Takes the one file that is needed out of the package, whatever the package calls its folder."""
    say(f"unpack {archive.name} (566 MB)")
    with tarfile.open(archive) as package:
        for member in package:
            if member.isfile() and os.path.basename(member.name) in ("libchdb.so", "libchdb.dylib"):
                with package.extractfile(member) as source, open(target, "wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
                return
    raise Failure(f"{archive.name} holds no libchdb; choose another release in dev/fetch.py")


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
    say(f"ready: kafka {kafka().version} and clickhouse {clickhouse().version} in {shown(tools.kafka.parent)}")
    return 0


if __name__ == "__main__":
    run(main)
