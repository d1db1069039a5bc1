"""The autoscaler of the overlay, with metrics of pods."""

import contextlib

from dev.cluster import kubectl, metrics_server
from dev.command import Failure
from tests.cluster.checks import rollouts
from tests.cluster.stage import SPACE, replace

WINDOW = "scaleDown: {stabilizationWindowSeconds: 600}"
SHORT_WINDOW = "scaleDown: {stabilizationWindowSeconds: 15}"
LEAST = 3
# The pods request 20m of a processor here, of which the autoscaler wants 70 % used: 42m of all three. Some requests a
# second need less, and as many as a few clients can send need more. One event in each, so that ClickHouse keeps up.
LIGHT = {"rate": 40, "clients": 2}
HEAVY = {"rate": 0, "size": 1, "clients": 16}
METRICS_SECONDS = (
    180  # until the autoscaler has a value: metrics-server looks every 15 s, and after two looks it has a rate
)
UP_SECONDS = 240
DOWN_SECONDS = 300  # the autoscaler looks every 15 s, and takes pods away at most all at once


def autoscale(scene):
    """serve gets more pods under load, and its least number after it, without a failed request."""
    file = scene.overlay.parent.parent / "components" / "autoscaling" / "serve.yaml"
    replace(file, WINDOW, SHORT_WINDOW)
    metrics_server.install()
    try:
        scene.apply()
        kubectl.wait_until("the autoscaler's metrics", lambda: utilization() is not None, METRICS_SECONDS)
        with scene.load(**LIGHT):
            back_to_least(scene)
            with scene.load(**HEAVY):
                seconds = kubectl.wait_until(
                    f"more than {LEAST} pods of serve", lambda: rollouts.serves(scene) > LEAST, UP_SECONDS
                )
                scene.record("more_pods_seconds", seconds)
                scene.record("utilization_percent", utilization())
                scene.record("pods", rollouts.serves(scene))
            scene.record("back_seconds", back_to_least(scene))
    finally:
        metrics_server.remove()
        with contextlib.suppress(Failure):
            replace(file, SHORT_WINDOW, WINDOW)
        scene.apply()
        # Without metrics, the autoscaler keeps the number that it has.
        kubectl.run("--namespace", SPACE, "scale", "deployment/captcha-serve", f"--replicas={LEAST}")
    scene.settle()


def back_to_least(scene):
    return kubectl.wait_until(f"{LEAST} pods of serve", lambda: running_pods(scene) == LEAST, DOWN_SECONDS)


def autoscaler():
    return kubectl.read("get", "hpa/captcha-serve", "--namespace", SPACE)


def utilization():
    """Of the requests of the pods, in per cent; None while it is not known."""
    for metric in autoscaler().get("status", {}).get("currentMetrics") or []:
        if metric.get("type") == "Resource":
            return metric["resource"]["current"].get("averageUtilization")
    return None


def running_pods(scene):
    return len(scene.pods("serve"))
