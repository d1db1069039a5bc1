"""Processes that are killed, memory that runs out, servers and a node that are away: nothing is lost or doubled."""

import time

from dev.cluster import kubectl, layout, machine
from dev.command import Failure
from tests.cluster.stage import SPACE, away, replace

ROUNDS = 3
AWAY_SECONDS = 60
BACK_SECONDS = 120  # until a report is complete again after an outage
RESOURCES = "requests: {cpu: 250m, memory: 256Mi}\n            limits: {memory: 1Gi}"
TINY = "requests: {cpu: 250m, memory: 8Mi}\n            limits: {memory: 8Mi}"  # consume needs more to start
NODE_SECONDS = 300


def kill(scene):
    """SIGKILL for every process of serve and consume at once, three times under load."""
    with scene.load(failures_max=None):
        for _ in range(ROUNDS):
            before = restarts(scene)
            killed = scene.kill("serve") + scene.kill("consume")
            if killed != len(before):
                raise Failure(f"{killed} processes were found to kill in {len(before)} pods")
            scene.record("killed", scene.numbers.get("killed", 0) + killed)
            all_restarted(scene, before)
    scene.settle(BACK_SECONDS)


def out_of_memory(scene):
    """consume gets a memory limit that it cannot live with, is killed by the kernel, and gets the old one again."""
    file = scene.overlay.parent.parent / "base" / "consume.yaml"
    with scene.load():
        replace(file, RESOURCES, TINY)
        scene.apply()
        seconds = kubectl.wait_until("a pod of consume out of memory", lambda: killed_for_memory(scene), 120)
        scene.record("out_of_memory_seconds", seconds)
        replace(file, TINY, RESOURCES)
        scene.apply()
        scene.delete_broken_pods("consume")
        scene.rolled_out()
    scene.settle(BACK_SECONDS)


def killed_for_memory(scene):
    for pod in scene.pods("consume"):
        for status in pod["status"].get("containerStatuses", []):
            for state in (status.get("lastState", {}), status.get("state", {})):
                ended = state.get("terminated", {})
                # With so little, the kernel may kill already what starts the container.
                if ended.get("reason") == "OOMKilled" or "OOM" in ended.get("message", ""):
                    return True
    return False


def kafka_away(scene):
    """All brokers are away for a minute: requests are refused, none is lost."""
    minute_away(scene, "captcha-brokers", failures_max=None)


def clickhouse_away(scene):
    """All ClickHouse servers are away for a minute: no request fails, and reports catch up."""
    minute_away(scene, "chi-captcha-captcha", failures_max=0)


def minute_away(scene, prefix, failures_max):
    with scene.load(failures_max=failures_max), away("statefulset", prefix):
        time.sleep(AWAY_SECONDS)
    scene.settle(BACK_SECONDS)


def node_restart(scene):
    """The whole node is killed under load and started again: what was accepted is counted."""
    before = restarts(scene)
    with scene.load(failures_max=None):
        machine.end()
    begin = time.monotonic()
    machine.start()
    all_restarted(scene, before)
    scene.record("ready_seconds", time.monotonic() - begin)
    with scene.load():
        pass
    scene.settle(BACK_SECONDS)


def all_restarted(scene, before):
    """Waits until each pod has restarted and is ready; until the kubelet looks, it is as ready as it was before."""
    kubectl.wait_until(
        "all pods started again", lambda: all(n > before[pod] for pod, n in restarts(scene).items()), NODE_SECONDS
    )
    scene.all_ready(NODE_SECONDS)


def restarts(scene):
    pods = [*scene.pods("serve"), *scene.pods("consume")]
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}


def drain(scene):
    """A second node joins, pods move to it, and it is drained under load: no request fails."""
    machine.start_second()
    second = layout.NODES[1]
    for workload in ("statefulset/captcha-consume", "deployment/captcha-serve"):
        kubectl.run("--namespace", SPACE, "rollout", "restart", workload)
    scene.rolled_out()
    there = pods_on(scene, second)
    scene.record("drained", there)
    if not there:
        raise Failure(f"no pod of captcha was placed on {second}")
    with scene.load():
        kubectl.run("drain", second, "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={NODE_SECONDS}s")
        scene.all_ready()
    left = pods_on(scene, second)
    if left:
        raise Failure(f"{left} pods of captcha are still on {second}, which was drained")
    scene.settle()


def pods_on(scene, node):
    pods = [*scene.pods("serve"), *scene.pods("consume")]
    return len([pod for pod in pods if pod["spec"].get("nodeName") == node])
