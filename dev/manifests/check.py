"""Checks the Kubernetes manifests: they render, fit the schemas of two Kubernetes versions, and fit together.

    python3 -m dev.manifests [--dir FOLDER] [--binary target/debug/captcha] [--self-test]

Without a folder it checks the base, every overlay, and the base with each component and each pair of them. One line for
each, then one line per problem; exit 1 when there is one. Needs kubectl (or kustomize), the built captcha executable (it is
asked which settings it knows) and, the first time, PyPI for the pinned packages in dev/manifests/requirements.txt. The definitions of
custom resources are read from $CRDS, or from ../shared/k8s/crds beside the checkout, and alerts are tested with what
`make promtool` builds, or $PROMTOOL; where there are none it says so, and fails in CI.
"""

import argparse
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

from dev.command import ROOT

VENV = ROOT / ".dev" / "venv"
REQUIREMENTS = ROOT / "dev" / "manifests" / "requirements.txt"
KUBERNETES = ("1.32", "1.37")  # the oldest that the manifests are meant for, and a new one
CHECKOV = ROOT / "dev" / "manifests" / "checkov.txt"
# What checkov asks for and is not done, with the reason.
CHECKOV_SKIPPED = {
    "CKV_K8S_11": "no CPU limits: they throttle a process in the middle of a request although the node is idle",
    "CKV_K8S_15": "pull if not present: a tag is a version, and never means another image",
    "CKV_K8S_43": "no digest: who builds the image knows it, and sets it in an overlay",
}
SUBCOMMANDS = ("serve", "consume", "migrate")
SELF_TESTED = ROOT / "k8s" / "overlays" / "prod-ha"  # it has everything
# Components in the order in which they are named, with those that they need.
COMPONENTS = {
    "certs": [],
    "kafka": [],
    "clickhouse": ["certs"],
    "clickhouse-ha": ["certs", "clickhouse"],
    "gateway": [],
    "monitoring": [],
    "autoscaling": [],
}


def give_up(line):
    sys.exit(f"k8s-check: {line}")


def first_line(text):
    return next((line for line in text.splitlines() if line.strip()), "no reason given")[:300]


def installed(folder, requirements):
    """A virtual environment with the pinned packages of a file; its folder of programs."""
    stamp, wanted = folder / "k8s-requirements.sha256", hashlib.sha256(requirements.read_bytes()).hexdigest()
    python = folder / "bin" / "python"
    if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
        try:
            venv.create(folder, with_pip=True)
        except subprocess.CalledProcessError:
            give_up("cannot make a virtual environment: install Python's venv (Debian: python3-venv)")
        install = [python, "-m", "pip", "install", "--quiet", "--requirement", requirements]
        pip = subprocess.run(install, capture_output=True, text=True)
        if pip.returncode:
            give_up(f"cannot install {requirements.relative_to(ROOT)} with pip: {first_line(pip.stderr)}")
        stamp.write_text(wanted)
    return folder / "bin"


def enter_venv(module):
    """Runs this module again with the pinned packages, unless it already does."""
    if not (VENV.exists() and os.path.samefile(sys.prefix, VENV)):
        python = installed(VENV, REQUIREMENTS) / "python"
        os.execv(python, [python, "-m", module, *sys.argv[1:]])


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


def targets():
    """What is checked: (its name, its documents)."""
    k8s = ROOT / "k8s"
    for folder in [k8s / "base", *sorted((k8s / "overlays").iterdir())]:
        yield str(folder.relative_to(ROOT)), render(folder)
    for chosen in [*itertools.combinations(COMPONENTS, 1), *itertools.combinations(COMPONENTS, 2)]:
        needed = {c for name in chosen for c in [name, *COMPONENTS[name]]}
        components = [name for name in COMPONENTS if name in needed]
        # Beside the others, because a kustomization is named from another by a relative path.
        with tempfile.TemporaryDirectory(prefix=".check-", dir=k8s) as folder:
            lines = ["namespace: captcha", "resources: [../base]", "components:", *(f"  - ../components/{c}" for c in components)]
            (Path(folder) / "kustomization.yaml").write_text("\n".join(lines) + "\n")
            yield f"base with {', '.join(components)}", render(Path(folder))


def schema_problems(docs, version):
    """What the strict schemas of one Kubernetes version say, a kind that they do not know included."""
    import kubernetes_validate as kv

    from dev.manifests import crds
    for d in docs:
        if crds.is_custom(d):
            continue
        at = f"{d.get('kind')}/{d.get('metadata', {}).get('name')}"
        try:
            used = kv.validate(d, version, strict=True)
            if used != version:
                yield f"schema {version}: not known to kubernetes-validate, which would use {used}"
        except kv.ValidationError as e:
            yield f"schema {version}: {at}: {'.'.join(map(str, e.path))}: {first_line(e.message)}"
        except kv.SchemaNotFoundError:
            yield f"schema {version}: {at}: Kubernetes {version} has no {d.get('kind')} in {d.get('apiVersion')}"


def definitions():
    """The schemas of custom resources; None where there are none, which is a problem in CI."""
    from dev.manifests import crds
    found = crds.folder()
    if found is None:
        if os.environ.get("CI"):
            give_up(f"no definitions of custom resources in {crds.DEFAULT}; name their folder in CRDS")
        print("custom resources are not checked: there are no definitions beside the checkout; name their folder in CRDS")
        return None
    return crds.load(found)


def promtool():
    """Prometheus's own tool; None where there is none, which is a problem in CI."""
    from dev.manifests import monitoring
    found = monitoring.promtool()
    if found is None:
        if os.environ.get("CI"):
            give_up("no promtool: run `make promtool`, or name it in PROMTOOL")
        print("alerts are not tested: there is no promtool; run `make promtool` (which takes Go), or name it in PROMTOOL")
    return found


def dockerfile_problems(text):
    """What hadolint says of a Dockerfile."""
    hadolint = Path(sys.prefix) / "bin" / "hadolint"
    done = subprocess.run([hadolint, "--no-color", "-"], input=text, capture_output=True, text=True)
    lines = [f"hadolint: {line}" for line in (done.stdout + done.stderr).splitlines()]
    lines = lines or ([f"hadolint failed: {done.returncode}"] if done.returncode else [])
    # A tag may be another image tomorrow.
    images = re.findall(r"^(?:FROM|# *syntax=) *(\S+)", text, re.MULTILINE)
    return lines + [f"{image} has no digest" for image in images if image != "scratch" and "@sha256:" not in image]


def checkov_problems(docs):
    """What checkov says of builtin kinds, without asking its own server."""
    import yaml
    checkov = installed(ROOT / ".dev" / "venv-checkov", CHECKOV) / "checkov"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all.yaml"
        file.write_text(yaml.safe_dump_all(docs))
        options = ["--framework", "kubernetes", "--compact", "--quiet", "--skip-download", "--output", "json"]
        options += ["--skip-check", ",".join(CHECKOV_SKIPPED)]
        done = subprocess.run([checkov, "--file", file, *options], capture_output=True, text=True)
    try:
        report = json.loads(done.stdout)
        passed = report["summary"]["passed"]
    except (ValueError, KeyError, TypeError):
        return [f"checkov: cannot be understood: {first_line(done.stdout + done.stderr)}"]
    failed = report["results"]["failed_checks"]
    problems = [f"checkov: {f['resource']}: {f['check_id']} {f['check_name']}" for f in failed]
    return problems or ([] if passed > 100 else [f"checkov: made {passed} checks only"])


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


def check(label, world, schemas):
    """All problems of one set of documents, and one line about it."""
    from dev.manifests import rules
    problems, checks = list(schemas(world.docs)), len(world.docs) * len(KUBERNETES)
    for group, found in rules.facts(world).items():
        problems += [f"{group}: {f.where}: not so: {f.rule}{f' ({f.detail})' if f.detail else ''}" for f in found if not f.ok]
        checks += len(found)
    print(f"{label:45} {len(world.docs)} documents, {checks} checks")
    return [f"{label}: {p}" for p in problems], checks


def main():
    options = argparse.ArgumentParser(prog="python3 -m dev.manifests", description=first_line(__doc__))
    options.add_argument("--dir", type=Path, help="check this kustomization alone")
    options.add_argument("--binary", type=Path, help="the captcha executable [default: the newest in target/]")
    options.add_argument("--self-test", action="store_true", help="only damage the documents and see that each rule complains")
    args = options.parse_args()
    enter_venv("dev.manifests")
    from dev.manifests import crds, monitoring, rules, selftest

    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    known, custom = known_settings(args.binary or newest_binary()), definitions()
    watched, tool = monitoring.read(), promtool()

    def schemas(docs):
        found = [p for version in KUBERNETES for p in schema_problems(docs, version)]
        return found + list(crds.problems(docs, custom) if custom else [])

    problems, checks = [], 0
    if not args.self_test:
        chosen = [(str(args.dir), render(args.dir))] if args.dir else targets()
        for label, docs in chosen:
            found, count = check(label, rules.World(docs, version, known), schemas)
            problems, checks = problems + found, checks + count
        dockerfile = (ROOT / "Dockerfile").read_text()
        problems += dockerfile_problems(dockerfile)
        damaged = dockerfile_problems(dockerfile.replace("FROM scratch", "FROM debian:latest"))
        if not any(line.startswith("hadolint:") for line in damaged):
            problems.append("hadolint does not complain of an image without a version")
        if "debian:latest has no digest" not in damaged:
            problems.append("an image without a digest is not noticed")
        checks += 3
        print("Dockerfile: hadolint, digests")
        docs = render(SELF_TESTED)
        problems += checkov_problems(docs)
        if not checkov_problems(selftest.damaged(docs, selftest.SERVE, selftest.POD + "hostNetwork", True)):
            problems.append("checkov does not complain of a pod in the host's network")
        checks += 2
        print(f"{SELF_TESTED.relative_to(ROOT)}: checkov")
        secrets = ", ".join(f"{s} (keys {', '.join(sorted(k))})" for s, k in rules.OUT_OF_BAND.items())
        print(f"secrets to be made by hand: {secrets}")
        problems += monitoring.problems(watched, tool)
        checks += 1
        print(f"monitoring: {len(monitoring.alerts(watched.groups))} alerts, {len(watched.board['panels'])} panels and rows")
    if not problems:
        world = rules.World(render(SELF_TESTED), version, known)
        lines, damages = selftest.run(world, schemas, custom is not None)
        more_lines, more_damages = selftest.run_monitoring(watched, tool)
        problems, damages = lines + more_lines, damages + more_damages
        checks += damages
        print(f"self-test: {damages} damages to the documents, {len(problems)} unnoticed")
    sys.stdout.flush()
    for p in problems:
        print(f"k8s-check: {p}", file=sys.stderr)
    sys.stderr.flush()
    print(f"k8s-check: {checks} checks, {len(problems)} problems")
    return 1 if problems else 0

