"""What every check works with: the cluster, the load on it, and the ledger of what was promised."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from dev.cluster import install, kubectl, layout, machine
from dev.cluster.install import ROLLOUT_SECONDS
from dev.command import ROOT, Failure, start
from tests.cluster.ledger import Ledger

SETTLE_SECONDS = 120  # until a report has everything after what a check did; each check may state less
STEADY_SECONDS = 3  # of load before and after what a check does
STOP_SECONDS = 60
SPACE = install.SPACE
PART = "app.kubernetes.io/part-of=captcha"


class Stage:
    def __init__(self, overlay, definitions, program):
        self.overlay = overlay  # a folder below a copy of k8s/, which checks may change
        self.definitions = definitions
        self.program = program
        self.ledger = Ledger()
        self.numbers = {}  # of the check that runs, for the table

    def make(self):
        begin = time.monotonic()
        install.install(self.overlay, self.definitions, self.program)
        self.record("ready_seconds", time.monotonic() - begin)

    def kustomization(self):
        return install.kustomization(self.overlay)

    def apply(self):
        """Applies the overlay as it is now; the lines of what changed."""
        lines = kubectl.run("apply", "-k", self.kustomization()).stdout.splitlines()
        return [line for line in lines if not line.endswith(" unchanged")]

    def rolled_out(self, seconds=ROLLOUT_SECONDS):
        """Waits until serve and consume are as they were applied; the seconds that it took."""
        begin = time.monotonic()
        for what in ("statefulset/captcha-consume", "deployment/captcha-serve"):
            kubectl.run("--namespace", SPACE, "rollout", "status", what, f"--timeout={seconds}s")
        return time.monotonic() - begin

    def service(self):
        """The address of the Service, which only the nodes and the pods can reach."""
        return kubectl.read("get", "service/captcha", "--namespace", SPACE)["spec"]["clusterIP"]

    def api_keys(self):
        """API keys: the writer's and the reader's."""
        return [key or "none" for key in install.api_keys()]

    def all_ready(self, seconds=ROLLOUT_SECONDS):
        """Waits until as many pods of serve and consume are ready as are wanted."""

        def ready():
            for kind, name in (("statefulset", "captcha-consume"), ("deployment", "captcha-serve")):
                done = kubectl.run("get", kind, name, "--namespace", SPACE, "--output=json", check=False)
                if done.returncode != 0:
                    return False
                workload = json.loads(done.stdout)
                if workload["status"].get("readyReplicas", 0) < workload["spec"]["replicas"]:
                    return False
            return True

        return kubectl.wait_until("all pods ready", ready, seconds)

    def keep_manifests(self):
        """Keeps the copy of k8s/ as it is now; what is returned puts it back."""
        folder = self.overlay.parent.parent
        kept = folder.with_name(folder.name + ".kept")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)

        def restore():
            shutil.rmtree(folder)
            kept.rename(folder)

        return restore

    def delete_broken_pods(self, *components):
        """Deletes the pods that are not ready: a StatefulSet waits for one of an older revision for ever, as
        k8s/README.md says."""
        for component in components:
            for pod in self.pods(component):
                if not is_ready(pod):
                    kubectl.run("--namespace", SPACE, "delete", "pod", pod["metadata"]["name"], "--ignore-not-found")

    def pods(self, component):
        found = kubectl.items("pods", SPACE, f"{PART},app.kubernetes.io/component={component}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    @contextlib.contextmanager
    def load(self, failures_max=0, **options):
        """Sends events while the block runs. Its requests may fail `failures_max` times (None: as often as they do)."""
        writer, reader = self.api_keys()
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        argv = machine.enter_network(sys.executable, "-m", "tests.cluster.load", self.service(), 80, *words)
        environ = {**os.environ, "CAPTCHA_LOAD_WRITER": writer, "CAPTCHA_LOAD_READER": reader}
        sender = start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, cwd=ROOT)
        try:
            time.sleep(STEADY_SECONDS)
            yield
            time.sleep(STEADY_SECONDS)
        except BaseException:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.add(sender)
            raise
        found = self.add(sender)
        if failures_max is not None and found["failed"] > failures_max:
            raise Failure(f"{found['failed']} requests failed: {'; '.join(found['failures'][:3])}")

    def add(self, sender):
        """Ends a load, and enters what it was promised."""
        text, _ = sender.communicate(timeout=STOP_SECONDS)
        if sender.returncode != 0:
            raise Failure(f"the load ended with code {sender.returncode}")
        found = json.loads(text)
        self.ledger.add(found)
        for name in ("requests", "failed", "again", "unanswered_reports"):
            self.numbers[name] = self.numbers.get(name, 0) + found[name]
        self.numbers["events"] = self.numbers.get("events", 0) + sum(found["accepted"].values())
        for name in ("behind_seconds", "slowest_seconds"):
            self.numbers[name] = max(self.numbers.get(name, 0), round(found[name], 1))
        return found

    def settle(self, seconds=SETTLE_SECONDS):
        """Waits for a report that has all that was accepted so far, once."""
        _, reader = self.api_keys()
        address = self.service()

        def ask():
            script = (
                "import sys; from tests.cluster import ledger; print(ledger.ask_report(sys.argv[1], sys.stdin.read()))"
            )
            argv = machine.enter_network(sys.executable, "-c", script, f"{address}:80")
            done = subprocess.run(argv, check=False, input=reader, capture_output=True, text=True, cwd=ROOT)
            if done.returncode != 0:
                raise Failure((done.stderr.strip().splitlines() or ["no report"])[-1][:300])
            return done.stdout

        self.record("complete_seconds", self.ledger.settle(ask, seconds))

    def record(self, name, value):
        self.numbers[name] = round(value, 1) if isinstance(value, float) else value

    def metric(self, name):
        """The sum of a metric over all pods of serve and consume, as the node reads it."""
        total = 0.0
        for pod in [*self.pods("serve"), *self.pods("consume")]:
            url = f"http://{pod['status']['podIP']}:9090/metrics"
            done = subprocess.run(
                machine.enter_network("curl", "-sS", "-m", "5", url), check=False, capture_output=True, text=True
            )
            if done.returncode != 0:
                raise Failure(f"{pod['metadata']['name']} has no metrics: {done.stderr.strip()}")
            found = [line for line in done.stdout.splitlines() if re.match(rf"{name}[ {{]", line)]
            if not found:
                raise Failure(f"{pod['metadata']['name']} has no metric {name}")
            total += sum(float(line.rpartition(" ")[2]) for line in found)
        return total

    def kill(self, component):
        """SIGKILL to the process of each of a component's containers, as the kernel would do it."""
        pids = [pid for pod in self.pods(component) for pid in container_pids(pod)]
        for pid in pids:
            subprocess.run(machine.enter("kill", "-KILL", pid), check=False)
        return len(pids)


def container_pids(pod):
    """The first process of each container of a pod, as the node counts."""
    for status in pod["status"].get("containerStatuses", []):
        container = status.get("containerID", "").removeprefix("containerd://")
        if container:
            argv = machine.enter("ctr", "--namespace", "k8s.io", "task", "ls")
            listed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
            for line in listed.splitlines():
                if line.split()[0] == container:
                    yield int(line.split()[1])


def is_ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


@contextlib.contextmanager
def away(kind, prefix, replicas=0):
    """Workloads whose name begins with `prefix` have this many pods while the block runs."""
    before = {
        item["metadata"]["name"]: item["spec"]["replicas"]
        for item in kubectl.items(f"{kind}s", SPACE)
        if item["metadata"]["name"].startswith(prefix)
    }
    if not before:
        raise Failure(f"no {kind} has a name that begins with {prefix}")
    scale(kind, dict.fromkeys(before, replicas))
    try:
        yield
    finally:
        scale(kind, before)
        for name in before:
            kubectl.run("--namespace", SPACE, "rollout", "status", f"{kind}/{name}", "--timeout=300s")


def scale(kind, numbers):
    for name, replicas in numbers.items():
        kubectl.run("--namespace", SPACE, "scale", f"{kind}/{name}", f"--replicas={replicas}")


def copy_manifests():
    """A copy of k8s/ that checks may change; the folder of the overlays in it."""
    folder = layout.FOLDER / "k8s"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(install.K8S, folder)
    return folder / "overlays"


def replace(file, old, new):
    """Replaces a text in a file of the copy; it must be there once."""
    text = Path(file).read_text()
    if text.count(old) != 1:
        raise Failure(f"{file} has {old!r} {text.count(old)} times, not once")
    Path(file).write_text(text.replace(old, new))
