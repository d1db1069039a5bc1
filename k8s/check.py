#!/usr/bin/env python3
"""Checks the Kubernetes manifests: they render, fit the schemas of two Kubernetes versions, and fit together.

    python3 k8s/check.py [--dir k8s/base] [--binary target/debug/captcha] [--self-test]

One line per group, then one line per problem; exit 1 when there is one. Needs kubectl (or kustomize), the built captcha
executable (it is asked which settings it knows) and, the first time, PyPI for the pinned packages in k8s/requirements.txt.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".dev" / "venv"
REQUIREMENTS = ROOT / "k8s" / "requirements.txt"
KUBERNETES = ("1.32", "1.37")  # the oldest that the manifests are meant for, and a new one
SUBCOMMANDS = ("serve", "consume", "migrate")


def give_up(line):
    sys.exit(f"k8s-check: {line}")


def first_line(text):
    return next((line for line in text.splitlines() if line.strip()), "no reason given")[:300]


def enter_venv():
    """Runs this script again with the pinned packages, unless it already does."""
    if VENV.exists() and os.path.samefile(sys.prefix, VENV):
        return
    stamp, wanted = VENV / "k8s-requirements.sha256", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    python = VENV / "bin" / "python"
    if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
        try:
            venv.create(VENV, with_pip=True)
        except subprocess.CalledProcessError:
            give_up("cannot make a virtual environment: install Python's venv (Debian: python3-venv)")
        install = [python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS]
        pip = subprocess.run(install, capture_output=True, text=True)
        if pip.returncode:
            give_up(f"cannot install {REQUIREMENTS.relative_to(ROOT)} with pip: {first_line(pip.stderr)}")
        stamp.write_text(wanted)
    os.execv(python, [python, *sys.argv])


def render(folder):
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize", folder]
    elif shutil.which("kustomize"):
        command = ["kustomize", "build", folder]
    else:
        give_up("neither kubectl nor kustomize is installed: install kubectl 1.27 or newer, or kustomize 5 or newer")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        give_up(f"{' '.join(map(str, command))} failed (it takes kustomize 5, kubectl 1.27 or newer): {first_line(done.stderr)}")
    import yaml
    return [d for d in yaml.safe_load_all(done.stdout) if d]


def schema_problems(docs, version):
    """What the strict schemas of one Kubernetes version say, a kind that they do not know included."""
    import kubernetes_validate as kv
    for d in docs:
        at = f"{d.get('kind')}/{d.get('metadata', {}).get('name')}"
        try:
            used = kv.validate(d, version, strict=True)
            if used != version:
                yield f"schema {version}: not known to kubernetes-validate, which would use {used}"
        except kv.ValidationError as e:
            yield f"schema {version}: {at}: {'.'.join(map(str, e.path))}: {first_line(e.message)}"
        except kv.SchemaNotFoundError:
            yield f"schema {version}: {at}: Kubernetes {version} has no {d.get('kind')} in {d.get('apiVersion')}"


def all_schema_problems(docs):
    return [p for version in KUBERNETES for p in schema_problems(docs, version)]


def newest_binary():
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [p for p in (target / "debug" / "captcha", target / "release" / "captcha") if p.exists()]
    if not built:
        give_up(f"no captcha executable in {target}: run `cargo build` first (it is asked which settings it knows)")
    return max(built, key=lambda p: p.stat().st_mtime)


def known_settings(binary):
    """The environment variables and flags that each subcommand's --help names."""
    known = {}
    for subcommand in SUBCOMMANDS:
        try:
            ask = [binary.resolve(), subcommand, "--help"]
            done = subprocess.run(ask, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired) as e:
            give_up(f"cannot ask {binary} {subcommand} --help: {e}")
        if done.returncode:
            give_up(f"{binary} {subcommand} --help failed: {first_line(done.stderr)}")
        variables = set(re.findall(r"\[env:\s*(CAPTCHA_[A-Z0-9_]+)", done.stdout))
        known[subcommand] = variables, set(re.findall(r"^\s+(?:-\w, )?(--[a-z0-9-]+)", done.stdout, re.MULTILINE))
    return known


def main():
    sys.dont_write_bytecode = True
    options = argparse.ArgumentParser(description=first_line(__doc__))
    options.add_argument("--dir", type=Path, default=ROOT / "k8s" / "base", help="the kustomization to check")
    options.add_argument("--binary", type=Path, help="the captcha executable [default: the newest in target/]")
    options.add_argument("--self-test", action="store_true", help="only damage the documents and see that each rule complains")
    args = options.parse_args()
    enter_venv()
    import rules
    import selftest

    docs = render(args.dir)
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    world = rules.World(docs, version, known_settings(args.binary or newest_binary()))
    problems, checks = [], 0
    if not args.self_test:
        problems += all_schema_problems(docs)
        checks += len(docs) * len(KUBERNETES)
        print(f"{'schemas':11} {len(docs)} documents, each against Kubernetes {' and '.join(KUBERNETES)}, strict")
        for group, found in rules.facts(world).items():
            problems += [f"{group}: {f.where}: not so: {f.rule}{f' ({f.detail})' if f.detail else ''}" for f in found if not f.ok]
            checks += len(found)
            print(f"{group:11} {len(found)} checks of {len({f.rule for f in found})} rules")
        secrets = ", ".join(f"{s} (key {', '.join(sorted(k))})" for s, k in rules.OUT_OF_BAND.items())
        print(f"{'by hand':11} these secrets must be made before the pods start: {secrets}")
    if not problems:
        lines, damages = selftest.run(world, all_schema_problems)
        problems += lines
        checks += damages
        print(f"{'self-test':11} {damages} damages to the documents, {len(lines)} unnoticed")
    sys.stdout.flush()
    for p in problems:
        print(f"k8s-check: {p}", file=sys.stderr)
    sys.stderr.flush()
    print(f"k8s-check: {checks} checks, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
