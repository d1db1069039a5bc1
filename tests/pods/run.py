"""One run: starts the servers and the pods, replaces all pods under load, ends them, and compares the report."""

import concurrent.futures
import os
import re
import shutil
import sys
from pathlib import Path

from dev import supervise, throwaway
from dev.command import ROOT, STATE, Failure, say, shown
from dev.manifests import render
from dev.testkit import processes
from tests.pods import clients, credentials, damages, image
from tests.pods.manifests import Documents
from tests.pods.network import Network
from tests.pods.operators import Servers
from tests.pods.pod import Pod, run_job, wait_whole
from tests.pods.problems import Over, Problems

OVERLAY = ROOT / "k8s" / "overlays" / "prod"
KEPT = STATE / "pods"
READY_SECONDS = 120  # for the first pods, all of which start at once with the Job
STEADY_SECONDS = 3  # of load before and after the pods are replaced
INDEX_LABEL = "apps.kubernetes.io/pod-index"


class Run:
    def __init__(self, options, documents, picture, folder, lock, problems):
        self.options = options
        self.documents = documents
        self.image = picture
        self.folder = folder
        self.problems = problems
        self.network = Network(documents.namespace())
        self.servers = Servers(documents, self.network, folder, lock)
        self.pods = []
        self.senders = None

    def carry_out(self):
        made, (writer, reader) = credentials.by_hand(self.folder / "by-hand", self.image.root / "captcha")
        self.documents.secrets |= made
        self.servers.begin()
        deployment = self.documents.one("Deployment", "serve")
        sets = self.documents.one("StatefulSet", "consume")
        serves = [self.serve(deployment, n) for n in range(self.documents.replicas(deployment))]
        consumes = [self.consume(sets, n) for n in range(self.documents.replicas(sets))]
        run_job(self.documents, self.image, self.network, self.folder, self.problems)
        wait_whole(serves + consumes, READY_SECONDS, self.problems)
        service = self.service(serves)
        self.need_owners(consumes)
        self.need_keys(service, reader)
        senders = self.senders = clients.Clients(service, writer, self.problems)
        senders.start()
        self.problems.pause(STEADY_SECONDS)
        if not self.options.damage or damages.DAMAGES[self.options.damage].rolls:
            with concurrent.futures.ThreadPoolExecutor() as both:
                rolls = [
                    both.submit(self.roll_serve, deployment, serves, service),
                    both.submit(self.roll_consume, sets, consumes),
                ]
                for roll in rolls:
                    roll.result()
            self.problems.pause(STEADY_SECONDS)
        senders.stop()
        total = clients.compare(service, reader, senders, self.problems)
        say(
            f"requests {senders.requests}, events accepted {senders.accepted.total()}, counted {total},"
            f" requests lost {senders.lost}, sent again because a stopping pod closed a kept connection {senders.again}"
        )
        say(f"requests by pod: {', '.join(f'{name} {count}' for name, count in sorted(senders.by_pod.items()))}")
        self.end([pod for pod in self.pods if pod.deleted_at is None])

    def start(self, workload, name, labels=None):
        spec = self.documents.spec(workload, name, self.network.pod_address(), labels)
        pod = Pod(spec, self.image, self.network, self.folder, self.problems)
        self.pods.append(pod)
        pod.watch()
        return pod

    def serve(self, deployment, number):
        return self.start(deployment, f"{deployment['metadata']['name']}-{number}")

    def consume(self, sets, ordinal):
        return self.start(sets, f"{sets['metadata']['name']}-{ordinal}", {INDEX_LABEL: str(ordinal)})

    def service(self, serves):
        (port,) = self.documents.one("Service", "serve")["spec"]["ports"]
        service = clients.Service(serves[0].spec.ports[port["targetPort"]])
        for pod in serves:
            service.add(pod)
        return service

    def need_owners(self, consumes):
        """Each partition is read by one pod, as the pods themselves say."""
        partitions = self.documents.one("KafkaTopic")["spec"]["partitions"]
        owners = {number: [] for number in range(partitions)}
        for pod in consumes:
            for number in re.findall(r"^partition (\d+): ok", pod.readiness, re.MULTILINE):
                owners[int(number)].append(pod.name)
        for number, names in owners.items():
            if len(names) != 1:
                self.problems.add(f"partition {number} is read by {' and '.join(names) or 'nobody'}")

    def need_keys(self, service, reader):
        """The file of API keys is in force: with a key that may read there is a report, without one nothing."""
        for key, name, wanted in ((reader, "the reader's", 200), (None, "no", 401)):
            status, text = clients.get_report(service, key)
            if status != wanted:
                self.problems.add(f"a report with {name} API key is answered {status} {text}")

    def roll_serve(self, deployment, olds, service):
        """A rolling update: one pod more, and for each that is ready an old one ends, which nobody waits for."""
        update = deployment["spec"]["strategy"]["rollingUpdate"]
        if update != {"maxUnavailable": 0, "maxSurge": 1}:
            raise Failure(f"a rolling update of {update} is not carried out here")
        with concurrent.futures.ThreadPoolExecutor() as ends:
            ending = []
            for number, old in enumerate(olds, len(olds)):
                new = self.serve(deployment, number)
                service.add(new)
                wait_whole([new], READY_SECONDS, self.problems)
                ending.append(ends.submit(old.end))
            for end in ending:
                end.result()

    def roll_consume(self, sets, olds):
        """As a StatefulSet does it: the last one first, and the next when the new one is ready."""
        for ordinal, old in reversed(list(enumerate(olds))):
            old.end()
            wait_whole([self.consume(sets, ordinal)], READY_SECONDS, self.problems)

    def give_up(self):
        """Ends what there still is, in no order."""
        if self.senders:
            self.senders.stop()
        for pod in self.pods:
            pod.kill()

    def end(self, pods):
        with concurrent.futures.ThreadPoolExecutor(max(len(pods), 1)) as ends:
            for end in [ends.submit(pod.end) for pod in pods]:
                end.result()


def verdict(options, problems):
    for problem in problems.texts:
        print(f"k8s-run: {problem}", file=sys.stderr)
    if options.damage is None:
        print(f"k8s-run: {len(problems.texts)} problems")
        return 1 if problems.texts else 0
    noticed = problems.noticed.is_set()
    outcome = "noticed" if noticed else f"not noticed: nothing says {problems.wanted!r}"
    print(f"k8s-run: damage {options.damage}: {outcome}")
    return 0 if noticed else 1


def inside(options):
    """In the namespaces; process 1 of its own, so whatever is left ends with it."""
    processes.kill_with_parent()
    supervise.Signals()
    folder, lock = throwaway.new_folder()
    work = problems = None
    code = 1
    try:
        (folder / "logs").mkdir(parents=True)
        picture = picture_of(options, folder)
        say(f"image: {picture.what}")
        documents = Documents(render.render(OVERLAY))
        if options.damage:
            damages.DAMAGES[options.damage].carry_out(documents)
        problems = Problems(options.damage and damages.DAMAGES[options.damage].said)
        try:
            work = Run(options, documents, picture, folder, lock, problems)
            work.carry_out()
        except Failure as failure:
            problems.add(str(failure))
        except Over:
            pass
        code = verdict(options, problems)
    finally:
        if work:
            work.give_up()
        if code != 0 and problems:
            shutil.rmtree(KEPT, ignore_errors=True)
            shutil.copytree(folder / "logs", KEPT)
            say(f"logs are kept in {shown(KEPT)}")
        shutil.rmtree(folder, ignore_errors=True)
    return code


def picture_of(options, folder):
    if options.image:
        return image.unpacked(options.image.resolve(), folder)
    return image.put_together(folder, Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")))
