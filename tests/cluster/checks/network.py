"""Who reaches what, asked from inside of pods of several kinds, against what the network policies should allow."""

import concurrent.futures
import time

from dev.cluster import images, kubectl, layout
from dev.command import Failure
from tests.cluster.stage import SPACE

STRANGER, PROMETHEUS, OTHER, NOBODY, MIGRATE = "stranger", "prometheus", "other", "nobody", "migrate"
PROBES = {
    STRANGER: ("default", {}),
    PROMETHEUS: ("monitoring", {"app.kubernetes.io/name": "prometheus"}),
    OTHER: ("monitoring", {}),
    NOBODY: (SPACE, {}),
    MIGRATE: (
        SPACE,
        {
            "app.kubernetes.io/name": "captcha",
            "app.kubernetes.io/component": "migrate",
            "app.kubernetes.io/part-of": "captcha",
        },
    ),
}
IN_FORCE_SECONDS = 8  # after the probes are ready: the policy controller runs once for all new pods
READY_SECONDS = 60
CONNECT_SECONDS = 2
OUTSIDE = "198.51.100.1"  # of a range for documentation: nobody is there

# Kind of probe, target, port, and whether it may connect.
WANTED = [
    (STRANGER, "service", 80, True),
    (STRANGER, "serve", 8000, True),
    (STRANGER, "serve", 9090, False),
    (STRANGER, "consume", 9090, False),
    (STRANGER, "kafka", 9093, False),
    (STRANGER, "kafka", 9091, False),
    (STRANGER, "clickhouse", 9440, False),
    (PROMETHEUS, "serve", 9090, True),
    (PROMETHEUS, "consume", 9090, True),
    (PROMETHEUS, "kafka", 9093, False),
    (OTHER, "serve", 9090, False),
    (OTHER, "consume", 9090, False),
    (NOBODY, "kafka", 9093, False),
    (NOBODY, "clickhouse", 9440, False),
    (NOBODY, "service", 80, False),
    (NOBODY, "dns", 53, True),
    (NOBODY, "api-server", 6443, False),
    (MIGRATE, "kafka", 9093, True),
    (MIGRATE, "kafka", 9091, False),
    (MIGRATE, "clickhouse", 9440, True),
    (MIGRATE, "clickhouse", 9000, False),
    (MIGRATE, "serve", 9090, False),
    (MIGRATE, "serve", 8000, False),
    (MIGRATE, "api-server", 6443, False),
    (MIGRATE, "outside", 443, False),
]


def policies(scene):
    """Who reaches what, asked from pods of five kinds: as the network policies intend."""
    kubectl.run("create", "namespace", "monitoring", check=False)
    kubectl.apply(probe(name, space, labels) for name, (space, labels) in PROBES.items())
    try:
        for name, (space, _) in PROBES.items():
            kubectl.run(
                "--namespace", space, "wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={READY_SECONDS}s"
            )
        time.sleep(IN_FORCE_SECONDS)
        targets = addresses(scene)
        with concurrent.futures.ThreadPoolExecutor(4) as several:
            answers = list(several.map(lambda row: connects(row[0], targets[row[1]], row[2]), WANTED))
    finally:
        for name, (space, _) in PROBES.items():
            kubectl.run("--namespace", space, "delete", f"pod/{name}", "--wait=false", "--ignore-not-found")
    scene.record("probes", len(WANTED))
    wrong = [
        f"{name} {'does not reach' if may else 'reaches'} {target}:{port}"
        for (name, target, port, may), got in zip(WANTED, answers, strict=True)
        if got != may
    ]
    if wrong:
        raise Failure(f"{len(wrong)} of {len(WANTED)} connections are not as intended: {'; '.join(wrong)}")


def probe(name, space, labels):
    container = {
        "name": "probe",
        "image": images.TOOLS,
        "command": ["sleep", "600"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": security, "automountServiceAccountToken": False}
    spec["terminationGracePeriodSeconds"] = 0
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": labels},
        "spec": spec,
    }


def addresses(scene):
    def of(selector):
        return kubectl.items("pods", SPACE, selector)[0]["status"]["podIP"]

    return {
        "service": scene.service(),
        "serve": scene.pods("serve")[0]["status"]["podIP"],
        "consume": scene.pods("consume")[0]["status"]["podIP"],
        "kafka": of("strimzi.io/kind=Kafka"),
        "clickhouse": of("clickhouse.altinity.com/chi=captcha"),
        "dns": layout.DNS,
        "api-server": layout.NODE_ADDRESSES[0],
        "outside": OUTSIDE,
    }


def connects(name, address, port):
    space, _ = PROBES[name]
    script = f"nc -w {CONNECT_SECONDS} {address} {port} </dev/null >/dev/null 2>&1 && echo yes || echo no"
    done = kubectl.run("--namespace", space, "exec", name, "--", "sh", "-c", script, check=False)
    if done.stdout.strip() not in ("yes", "no"):
        raise Failure(f"probe {name} cannot be asked: {done.stderr.strip()[-200:]}")
    return done.stdout.strip() == "yes"
