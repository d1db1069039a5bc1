"""Asks the captcha executable which settings it knows."""

import os
import re
from pathlib import Path

from dev.command import ROOT, Failure, captcha_environment
from dev.manifests.render import first_line
from dev.testkit import captcha

SUBCOMMANDS = ("serve", "consume", "migrate", "report")
SECONDS = 30


def chosen(program):
    """The executable that was named, or the newest that is built."""
    return (program or newest()).resolve()


def newest():
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [path for path in (target / "debug" / "captcha", target / "release" / "captcha") if path.exists()]
    if not built:
        raise Failure(
            f"no captcha executable in {target}: run `cargo build` first (it is asked which settings it knows)"
        )
    return max(built, key=lambda path: path.stat().st_mtime)


def known_settings(program):
    """{subcommand: (environment variables, flags)} that each --help names."""
    known = {}
    for subcommand in SUBCOMMANDS:
        words = [subcommand, "--help"]
        code, stdout, stderr = captcha.attempt(program, *words, environ=captcha_environment(), seconds=SECONDS)
        if code != 0:
            raise Failure(f"{program} {subcommand} --help failed: {first_line(stderr)}")
        variables = set(re.findall(r"\[env:\s*(CAPTCHA_[A-Z0-9_]+)", stdout))
        known[subcommand] = variables, set(re.findall(r"^\s+(?:-\w, )?(--[a-z0-9-]+)", stdout, re.MULTILINE))
    return known
