"""Pods that are replaced, added and taken away while events come in: no request may fail."""

import concurrent.futures
import json

from dev.cluster import kubectl
from dev.command import Failure
from tests.cluster.stage import SPACE, is_ready, replace

WORKLOADS = ("statefulset/captcha-consume", "deployment/captcha-serve")
HEAVY_RATE = 5000  # events a second, in bodies of 40
HEAVY = {"rate": HEAVY_RATE, "size": 40, "clients": 6}
COMPLETE_SECONDS = 30  # after a change of the number of pods
EVICTIONS_SECONDS = 300


def restart(scene):
    """All pods of serve and consume are replaced under load: no request fails."""
    with scene.load():
        for workload in WORKLOADS:
            kubectl.run("--namespace", SPACE, "rollout", "restart", workload)
        scene.record("rollout_seconds", scene.rolled_out())
    scene.settle()


def upgrade_and_back(scene):
    """To another version and back under load: no request fails, and migrate runs again for each."""
    base = scene.overlay.parent.parent / "base" / "kustomization.yaml"
    with scene.load():
        for old, new in (("0.1.0", "0.1.1"), ("0.1.1", "0.1.0")):
            replace(base, f"newTag: {old}", f"newTag: {new}")
            scene.apply()
            job = f"job/captcha-migrate-{new.replace('.', '-')}"
            kubectl.run("--namespace", SPACE, "wait", "--for=condition=Complete", job, "--timeout=300s")
            scene.record(f"to_{new}_seconds", scene.rolled_out())
            need_version(scene, new)
    scene.settle()


def need_version(scene, version):
    for component in ("serve", "consume"):
        for pod in scene.pods(component):
            image = pod["spec"]["containers"][0]["image"]
            if not image.endswith(f":{version}"):
                raise Failure(f"pod {pod['metadata']['name']} runs {image}, not version {version}")


def scale_consume(scene):
    """The number of consume pods changes from 4 to 6 to 3 and back, under 5,000 events a second."""
    size = scene.overlay / "size" / "kustomization.yaml"
    with scene.load(**HEAVY):
        for old, new in ((4, 6), (6, 3), (3, 4)):
            replace(size, f"count: {old}", f"count: {new}")
            scene.apply()
            scene.record(f"{old}_to_{new}_seconds", scene.rolled_out())
            if len(scene.pods("consume")) != new:
                raise Failure(f"{len(scene.pods('consume'))} consume pods run, not {new}")
    scene.settle(COMPLETE_SECONDS)


def scale_serve(scene):
    """The number of serve pods changes from 3 to 1 to 3 under load: no request fails."""
    scaler = scene.overlay.parent.parent / "components" / "autoscaling" / "serve.yaml"
    text = scaler.read_text()
    with scene.load():
        for least, most in ((1, 1), (3, 3)):
            scaler.write_text(
                text.replace("minReplicas: 3", f"minReplicas: {least}").replace(
                    "maxReplicas: 12", f"maxReplicas: {most}"
                )
            )
            scene.apply()
            # Without metrics of pods the autoscaler obeys its bounds alone.
            kubectl.wait_until(f"{least} pods of serve", lambda least=least: serves(scene) == least, 120)
            scene.rolled_out()
        scaler.write_text(text)
        scene.apply()
        scene.rolled_out()
    scene.settle()


def serves(scene):
    return len([pod for pod in scene.pods("serve") if is_ready(pod)])


def evict_all(scene):
    """Every pod of serve and consume is evicted, as a drain does it: the disruption budgets hold, no request fails."""
    with scene.load():
        refused = 0  # of one component
        for component in ("serve", "consume"):
            left = [pod["metadata"]["name"] for pod in scene.pods(component)]

            def evict_left(left=left):
                """Asks for all evictions at once, as several drains do."""
                nonlocal refused
                with concurrent.futures.ThreadPoolExecutor(len(left)) as all_at_once:
                    answers = list(all_at_once.map(evict, left))
                for name, evicted in zip(tuple(left), answers, strict=True):
                    if evicted:
                        left.remove(name)
                refused += answers.count(False)
                return not left

            kubectl.wait_until(f"all pods of {component} evicted", evict_left, EVICTIONS_SECONDS)
            scene.rolled_out()
            if not refused:
                raise Failure(f"all pods of {component} were evicted at once: the disruption budget does not hold")
            scene.record(f"{component}_refused", refused)
            refused = 0
    scene.settle()


def evict(pod):
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": SPACE}}
    path = f"/api/v1/namespaces/{SPACE}/pods/{pod}/eviction"
    done = kubectl.run("create", "--raw", path, "-f", "-", given=json.dumps(eviction), check=False)
    return done.returncode == 0 or "not found" in done.stderr
