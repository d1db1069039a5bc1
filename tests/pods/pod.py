"""A pod and its kubelet: starts it, asks its probes as they are declared, and ends it as Kubernetes does."""

import itertools
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

from dev import process
from dev.command import Failure, open_log, say, tail
from dev.testkit import http, processes
from tests.pods import network
from tests.pods.problems import Over

CONTAINER = Path(__file__).resolve().parent / "container.py"
NUMBERS = itertools.count()
TICK_SECONDS = 0.05
LOG_LINES = 6
ANSWER_LENGTH = 400  # characters of an answer that a problem has
TRY_SECONDS = 120  # for one try of the Job, which may have many
BELIEVED_SECONDS = 10  # a damage is noticed in what probes were refused with, when that lasts so long
KILLED = 128 + signal.SIGKILL
EXTENSION_SECONDS = 2  # what the kubelet still gives where preStop took all of the grace period


class Pod:
    """One pod. `problems` collects what no pod should do; it is shared by all pods."""

    def __init__(self, spec, image, net, folder, problems):
        self.spec = spec
        self.name = spec.name
        self.problems = problems
        self.log = folder / "logs" / f"{spec.name}.log"
        self.begin = time.monotonic()
        self.ready = False
        self.started = "startupProbe" not in spec.probes
        self.deleted_at = None  # when its end was ordered
        self.told_at = None  # when it got SIGTERM
        self.failed = False  # whether anything was wrong with it
        self.seen = set()  # probes that succeeded
        self.failures = dict.fromkeys(spec.probes, 0)  # of each probe, this many in a row
        self.refusal = "no probe was asked"
        self.readiness = ""  # what it answered when it was ready last
        self.peak = 0  # MiB
        self.launch(image, net, folder)

    def launch(self, image, net, folder):
        spec, number = self.spec, next(NUMBERS)
        place = folder / "pods" / f"{number}-{spec.name}"
        (place / "root").mkdir(parents=True)
        environ = image.environ | {"HOSTNAME": spec.name} | spec.environ
        user = image.user if spec.user is None else spec.user
        words = {
            "name": spec.name,
            "root": str(place / "root"),
            "image": str(image.root),
            "argv": [*(spec.argv or image.entrypoint), *spec.args],
            "environ": environ,
            "volumes": [{"at": v.at, "files": v.files, "read_only": v.read_only} for v in spec.volumes],
            "user": user,
            "group": spec.group,
            "files_group": spec.files_group,
            "capabilities": spec.capabilities,
            "may_escalate": spec.may_escalate,
            "read_only_root": spec.read_only_root,
            "resolver": net.resolver(),
            "address": spec.address,
            "prefix": network.PREFIX,
            "gateway": network.GATEWAY,
            "device": network.POD_DEVICE,
        }
        file = place / "spec.json"
        file.write_text(json.dumps(words))
        output = open_log(self.log)
        try:
            argv = [sys.executable, str(CONTAINER), str(file)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": output}
            # Not bound to the thread that starts it, which may end before; the namespace of processes binds both.
            self.shim = subprocess.Popen(argv, **pipes, text=True, start_new_session=True)
        finally:
            os.close(output)
        line = self.shim.stdout.readline()
        if not line.strip():
            raise Failure(f"{self.name}: {self.last_words()}")
        self.pid = int(line)
        net.join(self.pid, number)
        self.shim.stdin.write("go\n")
        self.shim.stdin.flush()

    def watch(self):
        """Begins to ask the probes."""
        threading.Thread(target=self.kubelet, daemon=True).start()

    def lasted(self):
        return time.monotonic() - self.begin

    def alive(self):
        return self.shim.poll() is None

    def last_words(self):
        return " | ".join(tail(self.log, LOG_LINES)) or "it printed nothing"

    def problem(self, text):
        self.failed = True
        self.problems.add(f"{self.name}: {text}")
        say(f"{self.name}: {text}")

    def kubelet(self):
        due = {name: self.begin + probe.delay_seconds for name, probe in self.spec.probes.items()}
        while self.told_at is None:
            if not self.alive():
                if self.deleted_at is None:
                    self.ready = False
                    ended = f"ended by itself after {self.lasted():.1f} s with code {self.shim.returncode}"
                    self.problem(f"{ended}: {self.last_words()}")
                return
            for name, probe in self.spec.probes.items():
                if (name == "startupProbe") == self.started or time.monotonic() < due[name]:
                    continue
                due[name] = time.monotonic() + probe.period_seconds
                if self.is_given_up(name, probe):
                    return
            time.sleep(TICK_SECONDS)

    def is_given_up(self, name, probe):
        """Asks a probe and does what follows; whether the pod would be restarted."""
        response = ask(self.spec.address, probe)
        status, text = response.status, response.text
        self.memory()
        ok = 200 <= status < 400
        self.failures[name] = 0 if ok else self.failures[name] + 1
        out = self.failures[name] >= probe.failures
        what = f"{probe.name} {probe.scheme} :{probe.port}{probe.path}"
        answer = f"{status or 'no answer'} {' '.join(text.split())[:ANSWER_LENGTH]}"
        if not ok:
            self.refusal = f"{what}: {answer}"
        elif name not in self.seen:
            self.seen.add(name)
            say(f"{self.name}: {what} {status} after {self.lasted():.1f} s")
        if ok and name == "startupProbe":
            self.started = True
        if self.deleted_at is not None:
            return False
        if name == "readinessProbe":
            if ok:
                self.ready, self.readiness = True, text
            elif out:
                if self.ready:
                    self.problem(f"is not ready any more: {answer}")
                self.ready = False
            return False
        if out:
            self.problem(f"Kubernetes would restart it: {what} failed {probe.failures} times: {answer}")
        return out

    def whole(self):
        """Whether every probe succeeded and it is ready."""
        return self.ready and self.seen == set(self.spec.probes)

    def memory(self):
        """Notes the most memory that it took so far; the limit is not enforced here."""
        before, self.peak = self.peak, max(self.peak, (processes.peak_bytes(self.pid) or 0) >> 20)
        if before <= self.spec.memory_mebibytes < self.peak:
            self.problem(f"took {self.peak} MiB; its limit is {self.spec.memory_mebibytes}")

    def end(self):
        """Orders its end and waits for it; its endpoint is taken out meanwhile, by whoever looks at `deleted_at`."""
        self.deleted_at = time.monotonic()
        last = self.deleted_at + self.spec.grace_seconds
        # Like the kubelet: the grace period counts from here on, preStop included.
        while time.monotonic() < min(self.deleted_at + self.spec.pre_stop_seconds, last) and self.alive():
            self.problems.pause(TICK_SECONDS)
        self.memory()
        if not self.alive():
            self.problem(f"ended by itself with code {self.shim.returncode} before it was told: {self.last_words()}")
            return
        self.told_at = time.monotonic()
        last = max(last, self.told_at + EXTENSION_SECONDS)
        process.signal_to(self.pid, signal.SIGTERM)
        while self.alive() and time.monotonic() < last:
            self.problems.pause(TICK_SECONDS)
        if self.alive():
            process.signal_to(self.pid, signal.SIGKILL)
        code, seconds = self.shim.wait(), time.monotonic() - self.told_at
        if code == KILLED:
            self.problem(f"was still there at the end of its {self.spec.grace_seconds} s, and killed")
        elif code != 0:
            self.problem(f"ended with code {code} on SIGTERM: {self.last_words()}")
        say(
            f"{self.name}: preStop {self.spec.pre_stop_seconds} s, SIGTERM, code {code} after {seconds:.1f} s,"
            f" {self.peak} MiB at most"
        )

    def kill(self):
        self.deleted_at = self.deleted_at or time.monotonic()
        self.told_at = self.told_at or self.deleted_at
        process.signal_to(self.pid, signal.SIGKILL)
        self.shim.wait()


def ask(address, probe):
    """The response as the kubelet gets it."""
    # The kubelet believes any certificate.
    tls = ssl._create_unverified_context() if probe.scheme == "HTTPS" else None
    headers = {"User-Agent": "kube-probe/1.32", "Connection": "close"}
    address, seconds = f"{address}:{probe.port}", probe.timeout_seconds
    return http.request(address, "GET", probe.path, headers=headers, seconds=seconds, tls=tls)


def run_job(documents, image, net, folder, problems):
    """The Job's pod to its end. All servers are up, so the first try has to succeed."""
    job = documents.one("Job", "migrate")
    name, seconds = job["metadata"]["name"], min(job["spec"]["activeDeadlineSeconds"], TRY_SECONDS)
    pod = Pod(documents.spec(job, name, net.pod_address()), image, net, folder, problems)
    while pod.alive() and pod.lasted() < seconds:
        pod.memory()
        problems.pause(TICK_SECONDS)
    if pod.alive():
        pod.kill()
        pod.problem(f"has not ended in {seconds} s: {pod.last_words()}")
    elif pod.shim.returncode != 0:
        pod.problem(f"ended with code {pod.shim.returncode}: {pod.last_words()}")
    else:
        say(f"{pod.name}: code 0 after {pod.lasted():.1f} s, {pod.peak} MiB at most: {tail(pod.log, 1)[0][:160]}")


def wait_whole(pods, seconds, problems):
    """Waits until all pods are ready and every probe of theirs has succeeded."""
    begin = time.monotonic()
    while late := [pod for pod in pods if not pod.whole()]:
        if any(pod.failed for pod in late):
            raise Over
        lasted = time.monotonic() - begin
        if lasted > seconds or (lasted > BELIEVED_SECONDS and any(problems.is_wanted(pod.refusal) for pod in late)):
            for pod in late:
                pod.problem(f"was not ready after {lasted:.0f} s: {pod.refusal}")
            raise Over
        problems.pause(TICK_SECONDS)
