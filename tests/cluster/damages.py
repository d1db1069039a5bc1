"""Damages to the manifests, and what a check has to say of each: shows that the checks can fail."""

from collections.abc import Callable
from typing import NamedTuple

from dev.cluster import kubectl
from tests.cluster.stage import SPACE, replace

READY_SECONDS = 40  # of the pods, instead of minutes: a damaged installation is never ready


class Damage(NamedTuple):
    carry_out: Callable  # changes the copy of k8s/
    said: str  # what a failure, or a log or an event of a pod, says of it
    check: str = "install"  # the check that has to fail


def in_file(path, old, new):
    return lambda scene: replace(scene.overlay.parent.parent / path, old, new)


DAMAGES = {
    "readiness": Damage(
        in_file(
            "base/serve.yaml",
            "readinessProbe:\n            httpGet: {path: /readyz,",
            "readinessProbe:\n            httpGet: {path: /ready,",
        ),
        "Readiness probe failed: HTTP probe failed with statuscode: 404",
    ),
}


def last_words(_scene):
    """Warnings of the namespace, and the last lines of each pod's log."""
    warnings = kubectl.run("--namespace", SPACE, "get", "events", "--field-selector=type=Warning", check=False).stdout
    words = ["--namespace", SPACE, "logs", "--selector=app.kubernetes.io/part-of=captcha", "--tail=3", "--prefix"]
    return warnings + kubectl.run(*words, "--max-log-requests=20", check=False).stdout
