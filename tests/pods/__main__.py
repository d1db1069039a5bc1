"""Runs the pods of an overlay as they are declared, without a cluster, and holds what they do against what clients were
promised.

Renders k8s/overlays/prod, makes of its documents what the operators would make (Kafka with its users, rights and topic,
ClickHouse with its users, certificates, secrets), and starts the image as each pod: arguments, environment, files,
user, a read-only root and no capability, in namespaces of its own, with a DNS that knows the services. Asks every probe
as declared, sends events without a pause while all pods are replaced by new ones, ends each pod as Kubernetes does, and
counts.

Needs Linux, root or subordinate user ids, ip, openssl, kubectl or kustomize, and what the development servers need.
Where the system allows no namespaces it says so and does nothing; that is a failure where CI is set."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from dev import fetch
from dev.command import run, say
from dev.testkit import packages, processes
from tests.pods import damages

INSIDE = "CAPTCHA_PODS_INSIDE"
TOOLS = ("unshare", "ip", "openssl", "mount")


def arguments():
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.pods", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--image", type=Path, help="archive of make image [default: builds the executable and takes that]"
    )
    parser.add_argument("--damage", choices=damages.DAMAGES, help="damage the documents so, and see that it is noticed")
    return parser.parse_args()


def enter():
    """Runs this module again in namespaces of its own, in which everything ends with it."""
    root = os.geteuid() == 0
    flags = [] if root else ["--user", "--map-root-user", "--map-auto"]
    flags += ["--net", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    trial = ["unshare", *flags, "ip", "link", "add", "trial", "type", "bridge"]
    reason = ", ".join(f"{tool} is not installed" for tool in TOOLS if shutil.which(tool) is None)
    if not reason:
        tried = subprocess.run(trial, check=False, capture_output=True, text=True)
        reason = tried.returncode and (tried.stderr.strip() or f"unshare ended with code {tried.returncode}")
    if reason:
        say(f"pods cannot be run on this machine, so nothing was checked: {reason}")
        return 1 if os.environ.get("CI") else 0
    argv = ["unshare", *flags, "--", sys.executable, "-m", "tests.pods", *sys.argv[1:]]
    child = subprocess.Popen(argv, env={**os.environ, INSIDE: "1"}, preexec_fn=processes.kill_with_parent)  # noqa: PLW1509
    try:
        return child.wait()
    except BaseException:
        child.send_signal(signal.SIGKILL)
        raise


def main():
    options = arguments()
    work = packages.load("tests.pods.run", "make k8s-run")
    if os.environ.pop(INSIDE, None):
        return work.inside(options)
    fetch.fetch()
    return enter()


if __name__ == "__main__":
    run(main)
