"""Outages, and the alerts that they raise on real series: those that are meant, and no others.

An alert is raised where its expression holds: it is pending until it has held for as long as the rule asks, then it
fires. Prometheus starts again before each outage, so that no rate remembers the one before."""

import base64
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

from dev.cluster import kubectl, machine, prometheus
from dev.command import Failure
from tests.cluster.checks import monitoring
from tests.cluster.stage import SPACE, away, container_pids

RAISE_SECONDS = 150  # of an outage, for its alerts; a kubelet needs up to two minutes for a changed Secret
MORE_SECONDS = 30  # of an outage after that, for alerts that nobody wants
RATE = 100  # events a second: enough for every metric to move
BACK_SECONDS = 120  # after an outage, until a report is complete
TOOL = "/opt/java/bin/java -Xmx64m -cp '/opt/kafka/*' org.apache.kafka.tools"
BROKER = "captcha-brokers-0"
INNER = f"{BROKER}:9091"  # the port of brokers among themselves, without a login
RESTARTS = 3  # CaptchaRestarting wants more than two in half an hour


class Outage(NamedTuple):
    carry_out: Callable  # a context: the outage lasts as long as it is open
    raised: set  # alerts that it has to raise
    also: set = frozenset()  # consequences that depend on what is noticed first
    fires: set = frozenset()  # those of `raised` that have to fire, not only to be pending
    failures_max: int | None = None  # requests that may fail meanwhile; None: any number
    seconds: int = RAISE_SECONDS


@contextlib.contextmanager
def clickhouse_away(_scene):
    """ClickHouse is away for as long as reports need to be called old."""
    with away("statefulset", "chi-captcha-captcha"):
        yield


@contextlib.contextmanager
def kafka_away(_scene):
    """All brokers are away."""
    with away("statefulset", "captcha-brokers"):
        yield


@contextlib.contextmanager
def consume_away(_scene):
    """No pod of consume runs."""
    with away("statefulset", "captcha-consume"):
        yield


@contextlib.contextmanager
def serve_away(_scene):
    """No pod of serve runs."""
    with away("deployment", "captcha-serve"):
        yield


@contextlib.contextmanager
def one_consumer_away(scene):
    """One pod less than the shares: nobody owns the partitions of the last."""
    with away("statefulset", "captcha-consume", len(scene.pods("consume")) - 1):
        yield


@contextlib.contextmanager
def wrong_password(_scene):
    """consume is given a password that ClickHouse does not have, and a pod starts with it."""
    with changed_secret("captcha-clickhouse", "consume", lambda _: "not the password"):
        replace_pod("captcha-consume-0")
        yield
    for number in range(4):
        replace_pod(f"captcha-consume-{number}")


@contextlib.contextmanager
def broken_keys(_scene):
    """The file of API keys has a line that is no key."""
    with changed_secret("captcha-keys", "keys.txt", lambda text: text + "this line is no key\n"):
        yield


@contextlib.contextmanager
def expiring_key(scene):
    """A key of the file expires in a week."""
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 7 * 86400))
    with tempfile.TemporaryDirectory() as folder:
        words = ["--role", "read", "--sites", "*", "--expires", day, "--key-out", f"{folder}/key"]
        made = subprocess.run([scene.program, "serve", "new-key", *words], check=True, capture_output=True, text=True)
    with changed_secret("captcha-keys", "keys.txt", lambda text: text + made.stdout):
        yield


@contextlib.contextmanager
def changed_secret(name, key, change):
    """Another text under a key of a Secret; the kubelet gives it to running pods within two minutes."""
    before = kubectl.secret_texts(SPACE)[name][key]
    patch_secret(name, key, change(before))
    try:
        yield
    finally:
        patch_secret(name, key, before)


def patch_secret(name, key, text):
    patch = {"data": {key: base64.b64encode(text.encode()).decode()}}
    # As a file: what is on a command line can be seen by others.
    kubectl.run("--namespace", SPACE, "patch", f"secret/{name}", "--patch-file=/dev/stdin", given=json.dumps(patch))


def replace_pod(name):
    kubectl.run("--namespace", SPACE, "delete", f"pod/{name}")


@contextlib.contextmanager
def foreign_records(_scene):
    """Another program writes what is no event."""
    tool(f"printf 'no event\\n' | {TOOL}.ConsoleProducer --bootstrap-server {INNER} --topic captcha")
    yield


@contextlib.contextmanager
def foreign_transaction(_scene):
    """Another program writes with a transaction, whose marker is an offset without a record."""
    options = (
        "--num-records 10 --record-size 10 --throughput -1 --transactional-id foreign --transaction-duration-ms 1000"
    )
    tool(f"{TOOL}.ProducerPerformance --topic captcha {options} --bootstrap-server {INNER}")
    yield


def tool(script):
    """Runs a tool of Kafka in a broker's pod."""
    kubectl.run("--namespace", SPACE, "exec", BROKER, "--", "/bin/sh", "-c", script)


@contextlib.contextmanager
def restarts(scene):
    """A process is killed again and again."""
    pod = scene.pods("serve")[0]["metadata"]["name"]
    api = prometheus.Api()
    for number in range(1, RESTARTS + 1):
        (found,) = [pod_ for pod_ in scene.pods("serve") if pod_["metadata"]["name"] == pod]
        for pid in container_pids(found):
            subprocess.run(machine.enter("kill", "-KILL", pid), check=True)
        query = f'changes(process_start_time_seconds{{pod="{pod}"}}[30m])'
        # Prometheus knows of a restart once it has scraped the process before and after.
        kubectl.wait_until(f"restart {number} in Prometheus", lambda q=query, n=number: counted(api, q) >= n, 180)
    yield


def counted(api, query):
    (found,) = api.query(query)
    return found[0][1] if found else 0


@contextlib.contextmanager
def two_consumers(scene):
    """A second pod with the arguments of the first."""
    (first,) = [pod for pod in scene.pods("consume") if pod["metadata"]["name"] == "captcha-consume-0"]
    name = "captcha-consume-again"  # without a number at its end, which a StatefulSet would count as its own
    labels = {key: value for key, value in first["metadata"]["labels"].items() if not key.startswith("statefulset.")}
    spec = {key: value for key, value in first["spec"].items() if key not in ("nodeName", "hostname", "subdomain")}
    metadata = {"name": name, "namespace": SPACE, "labels": labels}
    kubectl.apply([{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}])
    try:
        yield
    finally:
        kubectl.run("--namespace", SPACE, "delete", f"pod/{name}")


def check(outage):
    """The check of an outage: it raises what it has to, nothing else, and everything accepted is counted afterwards."""

    def carry_out(scene):
        api = monitoring.start(scene)
        monitoring.wait_quiet(api)
        begin = time.time()

        def lacking():
            seen = api.alerts_since(begin)
            yield from (f"{name} is not raised" for name in sorted(outage.raised - set(seen)))
            yield from (f"{name} does not fire" for name in sorted(outage.fires) if seen.get(name) == "pending")

        try:
            with scene.load(failures_max=outage.failures_max, rate=RATE):
                with outage.carry_out(scene):
                    kubectl.wait_until("alerts", lambda: monitoring.as_wanted(lacking), outage.seconds)
                    scene.record("raised_seconds", time.time() - begin)
                    time.sleep(MORE_SECONDS)
                scene.all_ready()
        finally:
            seen = api.alerts_since(begin)
            scene.record("raised", monitoring.words(seen))
        scene.settle(BACK_SECONDS)
        unwanted = monitoring.unexpected(seen, outage.raised | outage.also)
        if unwanted:
            raise Failure(f"the outage raises also {monitoring.words(unwanted)}")

    carry_out.__doc__ = outage.carry_out.__doc__
    return carry_out


# What a consumer that starts or ends raises for a moment. Both wait ten minutes until they fire.
CONSUME_STARTS = {"CaptchaConsumeNotReady", "CaptchaPartitionUnowned"}
# What the first pods of serve raise before they have reached Kafka. These wait for two and for five minutes.
SERVE_STARTS = {"CaptchaServeNotReady", "CaptchaProduceFailing"}
# `also` has consequences: answers that wait for a server that is away are slow, and so is an insert that waits for one.
OUTAGES = {
    "clickhouse": Outage(
        clickhouse_away,
        {"CaptchaConsumeNotReady", "CaptchaReportErrors", "CaptchaReportStale", "CaptchaLagSecondsGrowing"},
        also={"CaptchaServeSlow", "CaptchaInsertSlow"},
        failures_max=0,
        seconds=420,
    ),
    "kafka": Outage(
        kafka_away,
        {"CaptchaServeNotReady", "CaptchaProduceFailing", "CaptchaLeaderUnreachable", "CaptchaServeErrors"},
        also={"CaptchaConsumeNotReady", "CaptchaProduceSlow", "CaptchaServeSlow", "CaptchaLagSecondsGrowing"},
        fires={"CaptchaServeNotReady"},
    ),
    "consume": Outage(consume_away, {"CaptchaConsumeAbsent"}, also=CONSUME_STARTS, failures_max=0),
    "one-consumer": Outage(one_consumer_away, {"CaptchaPartitionUnowned"}, also=CONSUME_STARTS, failures_max=0),
    "serve": Outage(serve_away, {"CaptchaServeAbsent"}, also=SERVE_STARTS),
    "password": Outage(
        wrong_password,
        {"CaptchaLoginRefused", "CaptchaConsumeNotReady"},
        also=CONSUME_STARTS,
        failures_max=0,
    ),
    "keys": Outage(broken_keys, {"CaptchaFileNotLoaded"}, failures_max=0),
    "key-expires": Outage(expiring_key, {"CaptchaKeyExpires"}, failures_max=0),
    "dead-letters": Outage(foreign_records, {"CaptchaDeadLetters"}, fires={"CaptchaDeadLetters"}, failures_max=0),
    "records-gone": Outage(
        foreign_transaction, {"CaptchaDeadLetters", "CaptchaRecordsGone"}, fires={"CaptchaRecordsGone"}, failures_max=0
    ),
    "restarts": Outage(restarts, {"CaptchaRestarting"}, fires={"CaptchaRestarting"}, seconds=60),
    "two-consumers": Outage(two_consumers, {"CaptchaTwoConsumers"}, failures_max=0),
}

CHECKS = {f"alert-{name}": check(outage) for name, outage in OUTAGES.items()}
