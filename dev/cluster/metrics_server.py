"""metrics-server in the cluster: without it, an autoscaler keeps the number of pods between its bounds and no more."""

from pathlib import Path

from dev.cluster import kubectl

DOCUMENTS = Path(__file__).parent / "metrics-server.yaml"
READY_SECONDS = 120


def install():
    kubectl.run("apply", "-f", DOCUMENTS)
    words = ["--namespace", "kube-system", "rollout", "status", "deployment/metrics-server"]
    kubectl.run(*words, f"--timeout={READY_SECONDS}s")


def remove():
    """Takes it away, so that load does not change the number of pods under other checks."""
    kubectl.run("delete", "-f", DOCUMENTS, "--ignore-not-found")
