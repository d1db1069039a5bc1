"""Makes tools in .dev/tools: `download.py NAME...`, names of fetch.Tools. dev/fetch.py runs it; what it writes last is
how far it is. Each tool is made in .dev/fetching and renamed into place, so that a kill leaves nothing half."""

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from dev import disk, fetch, supervise
from dev.command import DEV, Failure, run, say, step, utf8_environment
from dev.fetch import FETCHING, LAUNCHER_SOURCES, ZOOKEEPER_SHA256, ZOOKEEPER_VERSION

MAVEN_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6}


def need_java():
    answer = subprocess.run(["java", "-version"], check=False, capture_output=True, text=True)
    found = re.search(r'version "(\d+)', answer.stderr)
    if not found:
        raise Failure(f"java -version does not say which version it is; install {fetch.GET['java']} and try again")
    if int(found[1]) < fetch.JAVA_AT_LEAST:
        wanted = f"Kafka needs {fetch.JAVA_AT_LEAST}; install {fetch.GET['java']} and try again"
        raise Failure(f"java is version {found[1]}, {wanted}")


def kafka(temporary):
    wanted = fetch.kafka()
    return jars(temporary, "kafka", wanted.version, wanted.sha256)


def zookeeper(temporary):
    return jars(temporary, "zookeeper", ZOOKEEPER_VERSION, ZOOKEEPER_SHA256)


def jars(temporary, name, version, expected):
    need_java()
    folder = temporary / "jars"
    log = temporary / "mvn.log"
    what = f"{name} {version}"
    step(
        f"{what}: fetching with maven",
        [
            "mvn",
            "-B",
            "-C",
            "-f",
            DEV / f"{name}-pom.xml",
            f"-D{name}.version={version}",
            "dependency:copy-dependencies",
            f"-DoutputDirectory={folder}",
        ],
        log,
        progress=lambda: f"{what}: {so_far(fetched_by_maven(log), getattr(fetch.NEEDS, name).download)}",
        env=utf8_environment(),
    )
    sums = sorted(f"{sha256(jar)} {jar.name}" for jar in folder.glob("*.jar"))
    verified = verify(what, hashlib.sha256("\n".join(sums).encode()).hexdigest(), expected)
    say(f"{what}: {len(sums)} jars are fetched{verified}")
    return folder


def fetched_by_maven(log):
    """The bytes that its log has so far, as in `Downloaded from central: ... (6.7 MB at 21 MB/s)`."""
    counts = re.findall(r"Downloaded from .* \(([\d.]+) (B|kB|MB) at ", log.read_text(errors="replace"))
    return sum(float(count) * MAVEN_UNITS[unit] for count, unit in counts)


def so_far(count, expected):
    return f"fetched {min(count, expected) / 1e6:.0f} of {expected / 1e6:.0f} MB"


def engine(temporary):
    wanted = fetch.clickhouse()
    machine = (platform.system(), platform.machine())
    if machine not in wanted.packages:
        raise Failure(
            f"there is no ClickHouse {wanted.version} for {' '.join(machine)}; use a ClickHouse server of your own"
        )
    package, expected = wanted.packages[machine]
    folder = temporary / "engine"
    folder.mkdir()
    fetch_from = {"npm": from_npm, "pip": from_pip}[wanted.source]
    fetch_from(temporary, folder, package, wanted, expected)
    return folder


def from_npm(temporary, folder, package, wanted, expected):
    what = f"clickhouse {wanted.version}"
    cache = subprocess.run(
        ["npm", "config", "get", "cache"], check=False, capture_output=True, text=True, cwd=temporary
    )
    growing = Path(cache.stdout.strip() or temporary) / "_cacache" / "tmp"
    before = folder_size(growing)
    most = 0

    def progress():
        nonlocal most
        most = max(most, folder_size(growing) - before)  # npm takes the file away once it is whole
        return f"{what}: {so_far(most, fetch.NEEDS.engine.download)}"

    step(
        f"{what}: fetching with npm",
        ["npm", "pack", "--loglevel=error", "--pack-destination", temporary, f"{package}@{wanted.release}"],
        temporary / "npm.log",
        progress=progress,
        cwd=temporary,
    )
    unpack_library(what, next(temporary.glob("*.tgz")), folder / "libchdb")
    verified = verify(what, sha256(folder / "libchdb"), expected)
    say(f"{what}: {package} {wanted.release} is fetched{verified}")


def folder_size(folder):
    """The bytes of the files in a folder where they come and go."""
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
    except OSError:
        return 0


def from_pip(temporary, folder, package, wanted, expected):
    what = f"clickhouse {wanted.version}"
    venv = temporary / "venv"  # some systems have pip nowhere else
    step(f"{what}: making a place for pip", [sys.executable, "-m", "venv", venv], temporary / "venv.log")
    step(
        f"{what}: fetching 180 MB with pip",
        [
            venv / "bin" / "python",
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            temporary,
            f"{package}=={wanted.release}",
        ],
        temporary / "pip.log",
    )
    wheel = next(temporary.glob("*.whl"))
    verified = verify(what, sha256(wheel), expected)
    say(f"{what}: unpacking")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.endswith(".so")])
    say(f"{what}: {package} {wanted.release} is fetched{verified}")


def unpack_library(what, archive, target):
    """Takes the one file that is needed out of the package, whatever the package calls its folder."""
    say(f"{what}: unpacking {disk.size(fetch.NEEDS.engine.stay)}")
    with tarfile.open(archive) as package:
        for member in package:
            if member.isfile() and os.path.basename(member.name) in ("libchdb.so", "libchdb.dylib"):
                with package.extractfile(member) as source, open(target, "wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
                return
    raise Failure(f"{archive.name} holds no libchdb; choose another release in dev/fetch.py")


def launcher(temporary):
    program = temporary / "clickhouse-server"
    step(
        "clickhouse launcher: compiling with cc",
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
    say("clickhouse launcher: compiled")
    return program


def sha256(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            total.update(block)
    return total.hexdigest()


def verify(what, found, expected):
    """What to say of it; fails if it is not what was pinned."""
    if expected is None:
        return f", but not verified: nobody has pinned its sha256 for this platform yet (it is {found})"
    if found != expected:
        raise Failure(f"{what} has sha256 {found}, expected {expected}: not used; see the constants in dev/fetch.py")
    return " and verified"


MAKERS = {"kafka": kafka, "zookeeper": zookeeper, "engine": engine, "launcher": launcher}


def download(names):
    for name in names:
        temporary = FETCHING / name
        temporary.mkdir()
        MAKERS[name](temporary).rename(getattr(fetch.places(), name))
    return 0


def main():
    parser = argparse.ArgumentParser(prog="download.py", description=__doc__)
    parser.add_argument("names", nargs="+", choices=MAKERS, metavar="NAME", help=", ".join(MAKERS))
    names = parser.parse_args().names
    return supervise.to_the_end(lambda _signals: download(names))


if __name__ == "__main__":
    run(main)
