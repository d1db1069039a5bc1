"""Builds captcha with cargo, as a job beside the others."""

import hashlib
import os
import re
import shutil
import sys
from pathlib import Path

from dev import disk
from dev.command import ROOT, STATE, Failure, say, tail
from dev.jobs import Job

# The profile of `cargo run` and `cargo test`, which so find most of it compiled: captcha with its 220 dependencies
# takes 205 s of processor time in it, twice that with optimisation.
PROFILE = "dev"
DISK_BYTES = 1_600 * 10**6
LOG = STATE / "logs" / "build.log"

COUNT = re.compile(r"\] *(\d+)/(\d+)")
ODD = re.compile(r"[^\w/.+@%,=~-]")


def target():
    """The folder that cargo builds in. The build of jemalloc takes no blanks and no quotes in its path: then it is in
    the cache of this user."""
    chosen = os.environ.get("CARGO_TARGET_DIR")
    if chosen:
        return Path(chosen).resolve()
    usual = ROOT / "target"
    if not ODD.search(str(usual)):
        return usual
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    other = cache / "captcha" / f"target-{hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:12]}"
    if ODD.search(str(other)):
        raise Failure(
            f"cannot build in {usual}: jemalloc takes no blanks and no quotes in its path; set CARGO_TARGET_DIR to a"
            " folder without"
        )
    return other


def program(profile):
    return target() / ("debug" if profile == "dev" else profile) / "captcha"


class Build(Job):
    """Cargo writes a bar of progress only to a terminal, unless it is asked to."""

    def __init__(self, profile):
        if shutil.which("cargo") is None:
            raise Failure("cargo is not installed or not on the PATH; install Rust with rustup and try again")
        argv = ["cargo", "build", "--locked", "--profile", profile, "--manifest-path", ROOT / "Cargo.toml"]
        environ = {
            **os.environ,
            "CARGO_TARGET_DIR": str(target()),
            "CARGO_TERM_PROGRESS_WHEN": "always",
            "CARGO_TERM_PROGRESS_WIDTH": "80",
            "CARGO_TERM_COLOR": "always" if sys.stderr.isatty() else "never",
        }
        super().__init__(argv, LOG, env=environ)

    def written(self):
        """What it wrote last: lines, and bars that each overwrite the one before."""
        return re.sub(r"\x1b\[K", "", "\n".join(tail(self.log, 400)))

    def progress(self):
        text = self.written()
        counts = COUNT.findall(text)
        if counts:
            done, all_of_them = counts[-1]
            return f"captcha: compiled {done} of {all_of_them} crates"
        if "Blocking" in text:
            return "captcha: waiting for another cargo"
        return "captcha: fetching crates" if "Download" in text else ""

    def done(self):
        return "captcha: compiled" if "Compiling" in self.written() else ""

    def failure(self, code):
        if disk.ran_out(self.log, target()):
            return disk.no_space(target(), DISK_BYTES, "the build of captcha", LOG)
        bars = re.compile(r"^\s*(Building|Downloading|Updating) .*\]|^\s*$")
        for line in re.split(r"[\r\n]+", self.written()):
            if not bars.search(re.sub(r"\x1b\[[0-9;]*m", "", line)):
                say(line)
        return Failure("captcha does not build; cargo says why above")
