"""Damages to what is installed, and what has to be said of each: shows that the checks can fail.

A damage is done to a cluster that is well, and undone when it was noticed."""

from collections.abc import Callable
from typing import NamedTuple

from dev.cluster import install, kubectl
from dev.cluster.operators import strimzi
from dev.command import Failure
from tests.cluster.checks import alerts, autoscaling, installation, monitoring, network, rollouts
from tests.cluster.stage import PART, SPACE, replace

NOTICE_SECONDS = 120
LATE_SECONDS = 20  # for checks that wait for a report: those of an installation that is well take a few
LINES = 5  # of each pod's log


class Damage(NamedTuple):
    carry_out: Callable  # changes the copy of k8s/, or the cluster
    said: str  # what the check, or a log or an event of a pod, has to say
    check: Callable | None = None  # what has to fail; without one, pods say it by themselves
    undo: Callable | None = None  # besides applying the overlay as it was
    applied: bool = True  # whether the overlay is applied before the check


def try_damage(scene, damage):
    """Does the damage, waits until it is noticed, and undoes it. Failure if nobody says what is wrong."""
    restore = scene.keep_manifests()
    kubectl.run("--namespace", SPACE, "delete", "events", "--all")
    if damage.said in last_words():
        raise Failure(f"somebody says {damage.said!r} before the damage is done")
    try:
        damage.carry_out(scene)
        if damage.applied:
            scene.apply()
        if damage.check:
            need_failure(scene, damage)
        else:
            kubectl.wait_until(f"somebody says {damage.said!r}", lambda: damage.said in last_words(), NOTICE_SECONDS)
    finally:
        restore()
        if damage.undo:
            damage.undo(scene)
        scene.apply()
        scene.delete_broken_pods("serve", "consume")
        scene.rolled_out()


def need_failure(scene, damage):
    try:
        damage.check(scene)
    except Failure as failure:
        if damage.said not in str(failure):
            raise Failure(f"the check failed, and does not say {damage.said!r}: {failure}") from None
        return
    raise Failure("the check holds in spite of the damage")


def last_words():
    """Warnings of the namespace, and the last lines of each pod's log and of the one before."""
    events = kubectl.run("--namespace", SPACE, "get", "events", "--field-selector=type=Warning", check=False).stdout
    words = ["--namespace", SPACE, "logs", f"--selector={PART}", f"--tail={LINES}", "--max-log-requests=30"]
    logs = [kubectl.run(*words, *more, check=False).stdout for more in ([], ["--previous"])]
    return "\n".join([events, *logs])


def in_file(path, old, new):
    """A text of a file of k8s/ that is replaced."""
    return lambda scene: replace(scene.overlay.parent.parent / path, old, new)


def right(user, operation):
    """Takes a right from a user in Kafka, and gives it back."""

    def change(word):
        def run(scene):
            documents = install.parse(install.render(scene.kustomization()))
            pod, script = strimzi.change_right(documents, user, operation, word)
            kubectl.run("--namespace", SPACE, "exec", pod, "--", "sh", "-c", script)

        return run

    return change("--remove --force"), change("--add")


def one_event_more(scene):
    """One event in the ledger that was never sent."""
    scene.ledger.accepted["2002-01-01 nobody served"] += 1


def one_event_less(scene):
    scene.ledger.accepted["2002-01-01 nobody served"] -= 1
    scene.ledger.accepted += {}


def settle_soon(scene):
    scene.settle(LATE_SECONDS)


def load_and_settle(scene):
    with scene.load():
        pass
    scene.settle(LATE_SECONDS)


def restart_serve(scene):
    with scene.load(rate=0, clients=8):
        kubectl.run("--namespace", SPACE, "rollout", "restart", "deployment/captcha-serve")
        scene.rolled_out()


REMOVE_WRITE, ADD_WRITE = right("captcha-serve", "Write")
REMOVE_READ, ADD_READ = right("captcha-consume", "Read")

SERVE, CONSUME = "base/serve.yaml", "base/consume.yaml"
PRE_STOP = """          lifecycle:
            preStop:
              sleep: {seconds: 10}
"""
DAMAGES = {
    "mount": Damage(
        in_file(
            SERVE,
            "- {name: clickhouse, mountPath: /run/secrets/clickhouse, readOnly: true}",
            "- {name: clickhouse, mountPath: /run/secrets/elsewhere, readOnly: true}",
        ),
        "/run/secrets/clickhouse/password",
    ),
    "readiness": Damage(
        in_file(SERVE, "httpGet: {path: /readyz, port: admin}", "httpGet: {path: /ready, port: admin}"),
        "Readiness probe failed: HTTP probe failed with statuscode: 404",
    ),
    "files-group": Damage(
        in_file(SERVE, "        runAsGroup: 65532\n        fsGroup: 65532\n", "        runAsGroup: 1000\n"),
        "permission denied",
    ),
    "pod-index": Damage(
        in_file(CONSUME, "fieldPath: \"metadata.labels['apps.kubernetes.io/pod-index']\"", "fieldPath: metadata.name"),
        "invalid value 'captcha-consume-",
    ),
    "memory": Damage(
        in_file(
            SERVE,
            "memory: 128Mi}\n            limits: {memory: 512Mi}",
            "memory: 8Mi}\n            limits: {memory: 8Mi}",
        ),
        "BackOff",
    ),
    "right-write": Damage(REMOVE_WRITE, "requests failed: ", load_and_settle, ADD_WRITE),
    "right-read": Damage(REMOVE_READ, "no report is complete", load_and_settle, ADD_READ),
    "pre-stop": Damage(in_file(SERVE, PRE_STOP, ""), "requests failed: ", restart_serve),
    "share": Damage(
        in_file(
            CONSUME, "--partition-share=$(POD_INDEX)/$(CONSUME_REPLICAS)", "--partition-share=0/$(CONSUME_REPLICAS)"
        ),
        "no report is complete",
        load_and_settle,
    ),
    "budget": Damage(
        in_file(SERVE, "  maxUnavailable: 1\n", "  maxUnavailable: 3\n"),
        "serve were evicted at once",
        rollouts.evict_all,
    ),
    "policy": Damage(
        in_file(
            "components/monitoring/network.yaml",
            "            matchLabels: {app.kubernetes.io/name: prometheus}",
            "            matchLabels: {}",
        ),
        "other reaches serve:9090",
        network.policies,
    ),
    "policy-prometheus": Damage(
        in_file("components/monitoring/network.yaml", "kubernetes.io/metadata.name: monitoring", "name: monitoring"),
        "is down: ",
        monitoring.start,
    ),
    "pod-monitor": Damage(
        in_file("components/monitoring/podmonitor.yaml", "values: [serve, consume]", "values: [serve]"),
        "pod captcha-consume-0 is no target",
        monitoring.start,
    ),
    "pod-monitor-label": Damage(
        in_file("components/monitoring/podmonitor.yaml", "podTargetLabels: [app.kubernetes.io/component]", ""),
        "has the namespace and component ('captcha', None)",
        monitoring.start,
    ),
    "panel": Damage(
        in_file("components/monitoring/dashboard.json", "(captcha_client_memory_bytes{", "(captcha_client_bytes{"),
        "Memory of clients: no data",
        monitoring.answers,
    ),
    "rule": Damage(
        in_file(
            "components/monitoring/rules.yaml",
            "process_max_fds) > 0.8\n            and on (namespace, pod)",
            "process_max_fds)\n            / on (namespace)",
        ),
        "CaptchaFileDescriptors: ",
        monitoring.answers,
    ),
    "alert-never": Damage(
        in_file(
            "components/monitoring/rules.yaml", 'captcha_consumed_rows_total{kind="bad"}', 'captcha_ready{check="bad"}'
        ),
        "CaptchaDeadLetters is not raised",
        alerts.CHECKS["alert-dead-letters"],
    ),
    "alert-always": Damage(
        in_file(
            "components/monitoring/rules.yaml",
            "expr: absent(captcha_topic_partitions)",
            "expr: captcha_topic_partitions",
        ),
        "no alert: not in ",
        alerts.CHECKS["alert-dead-letters"],
    ),
    "autoscaler": Damage(
        in_file("components/autoscaling/serve.yaml", "averageUtilization: 70", "averageUtilization: 7000"),
        "more pods of serve: not in ",
        autoscaling.autoscale,
    ),
    "count": Damage(one_event_more, "1 are missing", settle_soon, one_event_less),
    "apply": Damage(
        lambda _scene: kubectl.run("--namespace", SPACE, "scale", "statefulset/captcha-consume", "--replicas=3"),
        "a second apply changes 1 objects",
        installation.apply_again,
        applied=False,
    ),
}
QUICK = ("mount", "readiness", "right-write", "policy", "count")
