"""An installation, from nothing to counted events, and what a second one changes."""

import time

from dev.cluster import install as installer
from dev.cluster import kubectl
from dev.command import Failure

LATE_SECONDS = 60


def install(scene):
    """From an empty cluster to counted events, everything at once."""
    scene.make()
    with scene.load():
        pass
    scene.settle()


def apply_again(scene):
    """A second apply changes nothing, and kubectl diff shows nothing."""
    # kubectl sends the selector of a disruption budget each time, and says so, though nothing changes.
    changed = [line for line in scene.apply() if not line.startswith("poddisruptionbudget.policy/")]
    if changed:
        raise Failure(f"a second apply changes {len(changed)} objects: {', '.join(changed)}")
    done = kubectl.run("diff", "-k", scene.kustomization(), check=False)
    if done.returncode != 0 or done.stdout:
        raise Failure(f"kubectl diff is not empty: {done.stdout[:300]}{done.stderr[:300]}")


def reinstall(scene):
    """Everything is deleted as k8s/README.md says, and installed again on the volumes that are left, the overlay first
    and the operators' servers a minute later: what was counted before is counted still."""
    documents = installer.parse(installer.render(scene.kustomization()))
    kubectl.run("delete", "-k", scene.kustomization(), "--wait=true")
    installer.remove_operated()
    need_left()
    scene.apply()
    time.sleep(LATE_SECONDS)
    installer.operators_of(documents)
    servers = [f"statefulset/{item['metadata']['name']}" for item in kubectl.items("statefulsets", installer.SPACE)]
    for server in servers:
        if server != "statefulset/captcha-consume":
            kubectl.run("--namespace", installer.SPACE, "rollout", "status", server, "--timeout=600s")
    begin = time.monotonic()
    installer.wait_installed(documents)
    scene.record("ready_after_servers_seconds", time.monotonic() - begin)
    with scene.load():
        pass
    scene.settle()


def need_left():
    """`kubectl delete -k` leaves the namespace, the Secrets that were made by hand, and the claims."""
    kubectl.run("get", "namespace", installer.SPACE)
    for secret in ("captcha-clickhouse", "captcha-keys"):
        kubectl.run("--namespace", installer.SPACE, "get", "secret", secret)
    if not kubectl.items("persistentvolumeclaims", installer.SPACE):
        raise Failure("kubectl delete -k took the claims of Kafka and ClickHouse")
