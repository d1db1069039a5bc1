"""kubectl as the cluster's administrator, on the first node."""

import base64
import json
import subprocess
import time

from dev.cluster import layout, machine, programs
from dev.command import Failure, say_over

LOOK_SECONDS = 0.5


def argv(*words):
    return machine.enter(programs.folder() / "kubectl", "--kubeconfig", layout.kubeconfig("admin"), *words)


def run(*words, given=None, check=True):
    """Runs kubectl with `given` as its input; CompletedProcess, or Failure with what it says."""
    done = subprocess.run(argv(*words), check=False, input=given, capture_output=True, text=True)
    if check and done.returncode != 0:
        said = "; ".join(line for line in done.stderr.strip().splitlines() if line) or "no reason given"
        raise Failure(f"kubectl {' '.join(map(str, words[:4]))}: {said[-600:]}")
    return done


def read(*words):
    """The JSON that kubectl prints of objects."""
    return json.loads(run(*words, "--output=json").stdout)


def items(kind, space=None, selector=None):
    words = ["get", kind, *(["--namespace", space] if space else ["--all-namespaces"])]
    return read(*words, *(["--selector", selector] if selector else []))["items"]


def apply(documents, *words):
    """Applies documents; the lines that kubectl prints."""
    listed = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    return run("apply", *words, "-f", "-", given=json.dumps(listed)).stdout.splitlines()


def secret_texts(space):
    """The Secrets of a namespace: {name: {key: text}}."""
    return {
        secret["metadata"]["name"]: {
            key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()
        }
        for secret in items("secrets", space)
    }


def wait_until(what, true, seconds):
    """Asks until `true()` is so, and returns the seconds that it took; Failure with what it last said."""
    begin = time.monotonic()
    while not (answer := true()):
        passed = time.monotonic() - begin
        if passed > seconds:
            raise Failure(f"{what}: not in {seconds} s ({answer!r})")
        say_over(f"{what} ... {passed:.0f} s")
        time.sleep(LOOK_SECONDS)
    say_over("")
    return time.monotonic() - begin
