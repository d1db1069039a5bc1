"""Prometheus in the cluster, configured as its operator would configure it: targets by the PodMonitors of an overlay,
alerts by its PrometheusRules."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

from dev import prometheus
from dev.cluster import images, kubectl, layout, machine
from dev.cluster.operators.documents import config_map, metadata, need, pod
from dev.command import ROOT, STATE, Failure, step

SPACE = "monitoring"  # which the policies of components/monitoring admit
NAME = "prometheus"
# A policy of components/monitoring admits the pods that have the first of these.
LABELS = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": "captcha"}
PORT = 9090
MODULE = "github.com/prometheus/prometheus/cmd/prometheus"
# Of two dozen ways to find targets, the cluster needs one. With all of them, it compiles and links twice as much.
TAGS = "remove_all_sd,enable_kubernetes_sd"
# The operator's default is 30 s; alerts that come and go are seen better with less.
EVALUATION_SECONDS = 5
READY_SECONDS = 180
MEMORY = "512Mi"  # some 200 series for each of seven pods, for half an hour, take about 100


def image_name():
    return f"quay.io/prometheus/prometheus:v{prometheus.version()}"


def build():
    """The program; builds it if it is not there."""
    place = STATE / "tools" / f"{NAME}-{prometheus.version()}"
    if place.exists():
        return place
    layout.LOGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        environ = {**os.environ, "GOBIN": folder, "CGO_ENABLED": "0", "GOFLAGS": "-trimpath -buildvcs=false"}
        argv = ["go", "install", "-tags", TAGS, "-ldflags", "-s -w", f"{MODULE}@v{prometheus.version()}"]
        log = layout.LOGS / f"build-{NAME}.log"
        step(f"build {NAME} ({prometheus.version()}; once, minutes)", argv, log, env=environ)
        (Path(folder) / NAME).replace(place)
    return place


def make_image():
    """The archive of the image; makes it if it is not there. A node takes those that are there as it starts."""
    program = build()
    archive = f"{NAME}-{prometheus.version()}"
    images.image(archive, image_name(), lambda root: shutil.copy(program, root / NAME), [f"/{NAME}"])
    return next(layout.IMAGES.glob(f"{archive}-*.tar"))


def import_image():
    """Gives the image to a node that started before there was one."""
    command = machine.enter("ctr", "--namespace", "k8s.io", "images")
    listed = subprocess.run([*command, "ls", "-q"], check=True, capture_output=True, text=True).stdout
    if image_name() not in listed.splitlines():
        step("import Prometheus", [*command, "import", make_image()], layout.LOGS / f"import-{NAME}.log")


def configuration(documents):
    """What the operator would write for Prometheus: {file: text}."""
    scrapes = [job for monitor in documents.all("PodMonitor") for job in scrape_configs(monitor)]
    rules = {"groups": [group for rule in documents.all("PrometheusRule") for group in rule["spec"]["groups"]]}
    settings = {
        "global": {"scrape_interval": "30s", "evaluation_interval": f"{EVALUATION_SECONDS}s"},
        "rule_files": ["/etc/prometheus/rules.yaml"],
        "scrape_configs": scrapes,
    }
    return {"prometheus.yaml": json.dumps(settings, indent=1), "rules.yaml": json.dumps(rules, indent=1)}


def scrape_configs(monitor):
    """The jobs of a PodMonitor, one for each endpoint, with the operator's names and labels."""
    name, space, spec = monitor["metadata"]["name"], monitor["metadata"]["namespace"], monitor["spec"]
    need(spec, {"selector", "podTargetLabels", "podMetricsEndpoints"}, f"PodMonitor {name}")
    for number, endpoint in enumerate(spec["podMetricsEndpoints"]):
        need(endpoint, {"port", "path", "interval"}, f"PodMonitor {name}: endpoint {number}")
        copied = {"namespace": "namespace", "container": "pod_container_name", "pod": "pod_name"}
        yield {
            "job_name": f"podMonitor/{space}/{name}/{number}",
            "honor_timestamps": True,
            "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [space]}}],
            "scrape_interval": endpoint.get("interval", "30s"),
            "metrics_path": endpoint.get("path", "/metrics"),
            "relabel_configs": [
                {"source_labels": [meta("pod_phase")], "regex": "(Failed|Succeeded)", "action": "drop"},
                *selected(spec["selector"]),
                {"source_labels": [meta("pod_container_port_name")], "regex": endpoint["port"], "action": "keep"},
                *({"source_labels": [meta(source)], "target_label": target} for target, source in copied.items()),
                *map(target_label, spec.get("podTargetLabels", [])),
                {"target_label": "job", "replacement": f"{space}/{name}"},
                {"target_label": "endpoint", "replacement": endpoint["port"]},
            ],
        }


def selected(selector):
    """Keeps the pods that a label selector selects."""
    need(selector, {"matchLabels", "matchExpressions"}, "the selector of a PodMonitor")
    wanted = [(key, [value]) for key, value in selector.get("matchLabels", {}).items()]
    for expression in selector.get("matchExpressions", []):
        if expression["operator"] != "In":
            raise Failure(f"the selector of a PodMonitor: the stand-in does not know {expression['operator']}")
        wanted.append((expression["key"], expression["values"]))
    for key, values in wanted:
        sources = [meta(f"pod_label_{label(key)}"), meta(f"pod_labelpresent_{label(key)}")]
        yield {"source_labels": sources, "regex": f"({'|'.join(map(re.escape, values))});true", "action": "keep"}


def target_label(key):
    """Copies a label of the pod to all of its series."""
    return {"source_labels": [meta(f"pod_label_{label(key)}")], "target_label": label(key), "regex": "(.+)"}


def meta(name):
    return f"__meta_kubernetes_{name}"


def label(key):
    """A label of Kubernetes as Prometheus can have it."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", key)


def manifests(documents, moment):
    """The pod of Prometheus, another for each moment, and what it needs; it may look for pods where PodMonitors are."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(NAME, SPACE)}
    for space in sorted({monitor["metadata"]["namespace"] for monitor in documents.all("PodMonitor")}):
        group = "rbac.authorization.k8s.io"
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
        yield {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata(NAME, space), "rules": rules}
        yield {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata(NAME, space),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": SPACE}],
        }
    yield config_map(NAME, SPACE, configuration(documents))
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(NAME, SPACE),
        "spec": {"selector": LABELS, "ports": [{"name": "web", "port": PORT}]},
    }
    yield deployment(moment)


def deployment(moment):
    server = {
        "name": NAME,
        "image": image_name(),
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "--config.file=/etc/prometheus/prometheus.yaml",
            "--storage.tsdb.path=/data",
            "--storage.tsdb.retention.time=6h",
        ],
        "ports": [{"name": "web", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": "web"}, "periodSeconds": 1, "failureThreshold": 60},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": MEMORY}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/prometheus", "readOnly": True},
            {"name": "data", "mountPath": "/data"},
        ],
    }
    volumes = {"config": {"configMap": {"name": NAME}}, "data": {"emptyDir": {}}}
    spec = pod([server], volumes, serviceAccountName=NAME, automountServiceAccountToken=True)
    template = {"metadata": {"labels": LABELS, "annotations": {"started-at": f"{moment:.3f}"}}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(NAME, SPACE, LABELS),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": LABELS},
            "template": template,
        },
    }


def install(documents):
    """Starts Prometheus with these documents, without any series of before; again if it runs."""
    import_image()
    kubectl.apply(manifests(documents, time.time()))
    kubectl.run("--namespace", SPACE, "rollout", "status", f"deployment/{NAME}", f"--timeout={READY_SECONDS}s")


def remove():
    kubectl.run("delete", "namespace", SPACE, "--ignore-not-found")


class Api:
    """What Prometheus answers. Only nodes and pods reach it, so a process on the node asks."""

    def __init__(self):
        service = kubectl.read("get", f"service/{NAME}", "--namespace", SPACE)
        self.address = f"http://{service['spec']['clusterIP']}:{PORT}/api/v1/"

    def get(self, *paths):
        """The data of each path, or the error that Prometheus gives for it as a Failure in its place."""
        argv = machine.enter(sys.executable, "-c", ASK)
        given = json.dumps([self.address + path for path in paths])
        done = subprocess.run(argv, check=False, input=given, capture_output=True, text=True, cwd=ROOT)
        if done.returncode != 0:
            raise Failure(f"cannot ask Prometheus: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
        return [
            answer["data"] if answer["status"] == "success" else Failure(answer["error"])
            for answer in json.loads(done.stdout)
        ]

    def query(self, *expressions):
        """The samples of each expression now: [({label: value}, number)], or a Failure in its place."""
        answers = self.get(*(f"query?{urllib.parse.urlencode({'query': e})}" for e in expressions))
        return [answer if isinstance(answer, Failure) else samples(answer) for answer in answers]

    def one(self, path):
        (found,) = self.get(path)
        if isinstance(found, Failure):
            raise found
        return found

    def targets(self):
        """The targets that are scraped."""
        return self.one("targets?state=active")["activeTargets"]

    def alerts(self):
        """The alerts whose expression holds now: {name: "pending" or "firing"}."""
        states = {}
        for alert in self.one("alerts")["alerts"]:
            name = alert["labels"]["alertname"]
            states[name] = "firing" if "firing" in (alert["state"], states.get(name)) else "pending"
        return states

    def alerts_since(self, moment):
        """The alerts whose expression held at any time since a moment, in seconds since 1970: {name: state}."""
        seconds = max(round(time.time() - moment), EVALUATION_SECONDS)
        (found,) = self.query(f"count by (alertname, alertstate) (count_over_time(ALERTS[{seconds}s]))")
        if isinstance(found, Failure):
            raise found
        states = [(labels["alertname"], labels["alertstate"]) for labels, _ in found]
        return dict(sorted(states, key=lambda state: state[1], reverse=True))  # firing last, so that it stays


def samples(data):
    if data["resultType"] == "vector":
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]
    if data["resultType"] == "scalar":
        return [({}, float(data["result"][1]))]
    raise Failure(f"Prometheus answers a {data['resultType']} where samples of one moment are wanted")


# Prometheus answers an error as JSON too, with another status.
ASK = """
import json, sys, urllib.error, urllib.request
answers = []
for url in json.load(sys.stdin):
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            answers.append(json.load(answer))
    except urllib.error.HTTPError as error:
        answers.append(json.load(error))
json.dump(answers, sys.stdout)
"""
