"""Looks at rendered documents: workloads, containers, labels, selectors; and the facts that rules find in them."""

import re
from typing import NamedTuple

COMPONENT = "app.kubernetes.io/component"
VERSION = "app.kubernetes.io/version"
# The images of servers that run as plain workloads, with the number of the user in each; all others are captcha's own.
SERVERS = {"apache/kafka": 1000, "clickhouse/clickhouse-server": 101}


class Fact(NamedTuple):
    ok: bool
    rule: str
    where: str
    detail: str = ""

    def complaint(self):
        return f"{self.where}: not so: {self.rule}" + (f" ({self.detail})" if self.detail else "")


class World(NamedTuple):
    docs: list
    version: str  # of Cargo.toml
    known: dict  # subcommand -> (environment variables, flags) of the executable
    oldest: str  # Kubernetes that the manifests are for


def kind(docs, *kinds):
    return [d for d in docs if d["kind"] in kinds]


def name(doc):
    return doc["metadata"]["name"]


def where(doc):
    return f"{doc['kind']}/{name(doc)}"


def workloads(docs):
    return kind(docs, "Deployment", "StatefulSet", "Job", "CronJob")


def job(doc):
    """The spec of the jobs that a CronJob makes, or of any other workload itself."""
    return doc["spec"].get("jobTemplate", doc)["spec"]


def pod(doc):
    return job(doc)["template"]["spec"]


def pod_labels(doc):
    return job(doc)["template"]["metadata"].get("labels", {})


def image_name(container):
    """The image without its tag and digest."""
    path, slash, last = container["image"].partition("@")[0].rpartition("/")
    return path + slash + last.partition(":")[0]


def is_server(doc):
    """Whether a workload is Kafka or ClickHouse, and not a process of captcha."""
    return all(image_name(c) in SERVERS for c in pod(doc)["containers"])


def processes(docs):
    """Every container of captcha's own, as `containers` has them."""
    return (entry for entry in containers(docs) if not is_server(entry[0]))


def containers(docs):
    """Every container as (workload, pod spec, container, where)."""
    for doc in workloads(docs):
        for c in pod(doc)["containers"] + pod(doc).get("initContainers", []):
            yield doc, pod(doc), c, f"{where(doc)} {c['name']}"


def env(container):
    return {e["name"]: e for e in container.get("env", [])}


def hit(selector, docs):
    """The workloads whose pods have all labels of a selector (bare, or with matchLabels); an empty one hits none."""
    labels = (selector or {}).get("matchLabels", selector) or {}
    return [d for d in workloads(docs) if labels and labels.items() <= pod_labels(d).items()]


def one_component(selector, docs):
    return len(hit(selector, docs)) == 1


def expand(text, container):
    """What Kubernetes makes of $(NAME): the value in env, {field path} for a field; an unknown name stays."""

    def value(match):
        entry = env(container).get(match[1])
        if entry is None:
            return match[0]
        if "value" in entry:
            return entry["value"]
        return "{" + entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "?") + "}"

    return re.sub(r"\$\(([A-Za-z0-9_]+)\)", value, text)


def dashboards(docs):
    """The config maps that are for Grafana, and for no process of captcha."""
    return [d for d in kind(docs, "ConfigMap") if "grafana_dashboard" in d["metadata"].get("labels", {})]


def operated(docs):
    """The secrets that operators make of the documents, with their keys."""
    made = {name(d): {"password"} for d in kind(docs, "KafkaUser")}
    made |= {f"{name(d)}-cluster-ca-cert": {"ca.crt"} for d in kind(docs, "Kafka")}
    made |= {d["spec"]["secretName"]: {"ca.crt", "tls.crt", "tls.key"} for d in kind(docs, "Certificate")}
    return made
