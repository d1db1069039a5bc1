"""What hadolint says of the Dockerfile and checkov of the documents."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from dev.command import STATE, Failure
from dev.manifests import selftest
from dev.manifests.render import first_line

CHECKOV = STATE / "venv-checkov" / "bin" / "checkov"  # of its own, because it wants other versions of packages
CHECKOV_LEAST = 100  # checks that it makes of all documents; with fewer it has not read them
# What checkov asks for and is not done, with the reason.
CHECKOV_SKIPPED = {
    "CKV_K8S_11": "no CPU limits: they throttle a process in the middle of a request although the node is idle",
    "CKV_K8S_15": "pull if not present: a tag is a version, and never means another image",
    "CKV_K8S_43": "no digest: who builds the image knows it, and sets it in an overlay",
}


def dockerfile_problems(text):
    """All problems of the Dockerfile; and it must be noticed if it were worse."""
    problems = hadolint(text)
    damaged = hadolint(text.replace("FROM scratch", "FROM debian:latest"))
    if not any(line.startswith("hadolint:") for line in damaged):
        problems.append("hadolint does not complain of an image without a version")
    if "debian:latest has no digest" not in damaged:
        problems.append("an image without a digest is not noticed")
    return problems


def hadolint(text):
    program = Path(sys.prefix) / "bin" / "hadolint"
    done = subprocess.run([program, "--no-color", "-"], input=text, capture_output=True, text=True, check=False)
    lines = [f"hadolint: {line}" for line in (done.stdout + done.stderr).splitlines()]
    lines = lines or ([f"hadolint failed: {done.returncode}"] if done.returncode else [])
    # A tag may be another image tomorrow.
    images = re.findall(r"^(?:FROM|# *syntax=) *(\S+)", text, re.MULTILINE)
    return lines + [f"{image} has no digest" for image in images if image != "scratch" and "@sha256:" not in image]


def checkov_problems(docs):
    """All problems of the documents; and it must be noticed if they were worse."""
    problems = checkov(docs)
    if not checkov(selftest.damaged(docs, selftest.SERVE, selftest.POD + "hostNetwork", True)):
        problems.append("checkov does not complain of a pod in the host's network")
    return problems


def checkov(docs):
    """What checkov says of builtin kinds, without asking its own server."""
    if not CHECKOV.exists():
        raise Failure(f"{CHECKOV} is not there: run make k8s-check, which installs it")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all.yaml"
        file.write_text(yaml.safe_dump_all(docs))
        options = ["--framework", "kubernetes", "--compact", "--quiet", "--skip-download", "--output", "json"]
        options += ["--skip-check", ",".join(CHECKOV_SKIPPED)]
        done = subprocess.run([CHECKOV, "--file", file, *options], capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
        passed = report["summary"]["passed"]
    except (ValueError, KeyError, TypeError):
        return [f"checkov: cannot be understood: {first_line(done.stdout + done.stderr)}"]
    failed = report["results"]["failed_checks"]
    problems = [f"checkov: {found['resource']}: {found['check_id']} {found['check_name']}" for found in failed]
    return problems or ([] if passed > CHECKOV_LEAST else [f"checkov: made {passed} checks only"])
