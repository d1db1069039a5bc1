"""Checks of the Helm chart: it renders what the kustomizations render, and refuses wrong values."""

import copy
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import yaml

from dev.command import ROOT, Failure
from dev.manifests.documents import job, name, where, workloads
from dev.manifests.render import K8S, first_line

CHART = K8S / "chart"
NAMESPACE = "captcha"
SECONDS = 60

# The values that make of the chart what each folder makes. An overlay that is in neither table is a problem.
FOLDERS = {
    "base": [],
    "overlays/dev": ["values-dev.yaml"],
    "overlays/prod": ["values-prod.yaml"],
    "overlays/prod-ha": ["values-prod.yaml", "values-prod-ha.yaml"],
}
NOT_IN_CHART = {"overlays/local": "plain servers for a first look, without an operator"}
# And of each component, after the base.
PUBLIC = {"cert-manager.io/cluster-issuer": "public"}
VALUES_OF = {
    "daily-report": {"report": {"enabled": True}},
    "certs": {"certs": {"enabled": True}},
    "kafka": {"kafka": {"strimzi": {"enabled": True}}},
    "clickhouse": {"clickhouse": {"altinity": {"enabled": True}}},
    "clickhouse-ha": {"clickhouse": {"altinity": {"replicas": 2}}},
    "clickhouse-second-users": {"clickhouse": {"altinity": {"secondUsers": True}}},
    "kafka-second-users": {"kafka": {"strimzi": {"secondUsers": True}}},
    "gateway": {
        "gateway": {"enabled": True, "host": "captcha.example.com", "className": "public", "annotations": PUBLIC}
    },
    "monitoring": {"monitoring": {"enabled": True}},
    "autoscaling": {"autoscaling": {"enabled": True}},
}

# What may differ: what only the chart has, and why.
CHART_LABELS = ("helm.sh/chart", "app.kubernetes.io/managed-by")
CHART_ANNOTATIONS = {
    "checksum/config": "new settings make new pods",
    "helm.sh/resource-policy": "helm uninstall leaves what has the data",
}
JOB_HASH = re.compile(r"-[0-9a-f]{8}$")  # a changed template makes another Job

# Values that no kustomization has, with the Secrets (and their keys) that they need: everything that can be switched.
OWN_SERVERS = {
    "image": {"registry": "registry.example.com:5000", "digest": "sha256:" + "0" * 64, "pullSecrets": ["registry"]},
    "kafka": {
        "brokers": ["kafka-1.example.com:9093", "kafka-2.example.com:9093"],
        "tls": {"enabled": True, "caSecret": "kafka-ca", "clientSecret": "kafka-client"},
        "sasl": {"mechanism": "scram-sha-512"},
    },
    "clickhouse": {
        "shards": [["a-1.example.com:9440", "a-2.example.com:9440"], ["b-1.example.com:9440", "b-2.example.com:9440"]],
        "cluster": "main",
        "tls": {"enabled": True, "caSecret": "clickhouse-ca", "clientSecret": "clickhouse-client"},
    },
    "pod": {
        "annotations": {"example.com/team": "web"},
        "labels": {"example.com/team": "web"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "important",
        "extraEnv": [{"name": "RUST_BACKTRACE", "value": "1"}],
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    },
    "serve": {
        "replicas": 3,
        "service": {"type": "LoadBalancer", "port": 8080, "annotations": {"example.com/internal": "true"}},
        "pod": {"tolerations": [{"key": "public", "operator": "Exists"}], "priorityClassName": "more-important"},
    },
    "networkPolicy": {"wholeNamespace": False, "kafka": {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "annotations": {"cert-manager.io/cluster-issuer": "public"},
        "host": "captcha.example.com",
        "tlsSecret": "captcha-public-tls",
    },
    "gateway": {
        "enabled": True,
        "host": "captcha.example.com",
        "parentRefs": [{"name": "shared", "namespace": "gateways", "sectionName": "https"}],
    },
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}, "runbooks": "https://docs.example.org"},
}
CLIENT = {"tls.crt", "tls.key"}
OWN_SECRETS = {
    "kafka-ca": {"ca.crt"},
    "kafka-client": CLIENT,
    "captcha-kafka": {"serve", "consume", "migrate"},
    "clickhouse-ca": {"ca.crt"},
    "clickhouse-client": CLIENT,
    "chat": {"url"},
}
PRIORITY = {"priorityClassName": "important"}
OPERATORS = {
    "certs": {"enabled": True, "issuer": {"name": "company", "kind": "ClusterIssuer"}},
    "kafka": {"topic": "events", "strimzi": {"enabled": True, "storageClass": "fast", "pod": PRIORITY}},
    "clickhouse": {
        "database": "statistics",
        "altinity": {"enabled": True, "replicas": 2, "storageClass": "fast", "pod": PRIORITY},
    },
}
REPORT = {"report": {"enabled": True, "timeZone": "Europe/Berlin", "secret": "chat"}}
OPEN = {"keys": {"enabled": False}, "networkPolicy": {"enabled": False}, "monitoring": {"enabled": True}}
# The rules that do not hold with them.
DENIED = ("everything is denied unless it is allowed",)
POLICIES = (*DENIED, "pods may ask for names", "pods may reach the servers of the config", "http port is open")
VARIANTS = [
    ("own servers", [OWN_SERVERS], DENIED),
    ("own servers and a daily report", [OWN_SERVERS, REPORT], DENIED),
    ("prod-ha and a daily report", ["values-prod.yaml", "values-prod-ha.yaml", REPORT], ()),
    ("operators with other names", [OPERATORS], ()),
    ("without policies and keys", [OPEN], POLICIES),
    ("prod-ha without policies and keys", ["values-prod.yaml", "values-prod-ha.yaml", OPEN], POLICIES),
]

# Values that must be refused: (their text as --set takes it, a part of the message).
REFUSED = [
    ("kafka.broker=kafka:9092", "additional properties 'broker' not allowed"),
    ("kafka.brokers=kafka:9092", "want array"),
    ("kafka.brokers[0]=kafka", "at '/kafka/brokers/0'"),
    ("kafka.brokers[0]=kafka:9094", "networkPolicy.kafka.ports (9092, 9093) does not allow"),
    ("clickhouse.shards[0][0]=clickhouse:9004", "networkPolicy.clickhouse.ports (9000, 9440) does not allow"),
    ("clickhouse.shards[0]={a:9000,b:9000}", "set clickhouse.cluster"),
    ("serve.replicas=0", "at '/serve/replicas'"),
    ("consume.replicas=two", "at '/consume/replicas'"),
    ("image.tag=a b", "at '/image/tag'"),
    ("kafka.sasl.mechanism=scram", "at '/kafka/sasl/mechanism'"),
    ("kafka.sasl.mechanism=plain", "set kafka.tls.enabled"),
    ("kafka.strimzi.enabled=true,kafka.strimzi.brokers.replicas=2", "each copy needs a broker of its own"),
    ("kafka.strimzi.enabled=true,consume.replicas=13", "kafka.strimzi.topic.partitions is 12"),
    ("autoscaling.enabled=true,autoscaling.minReplicas=13", "more than autoscaling.maxReplicas"),
    ("ingress.enabled=true", "needs ingress.host"),
    ("report.schedule=daily", "at '/report/schedule'"),
    ("report.timeZone=Europe Berlin", "at '/report/timeZone'"),
    ("gateway.enabled=true", "needs gateway.host"),
    ("gateway.enabled=true,gateway.host=captcha.example.com", "needs gateway.className"),
    ("certs.issuer.name=company", "at '/certs/issuer'"),
    ("config.CAPTCHA_KAFKA_TOPIC=x", "the chart sets it"),
    ("config.KAFKA=x", "'KAFKA' does not match pattern '^CAPTCHA_"),
]


def template(chart=CHART):
    return ["template", "captcha", chart, "--namespace", NAMESPACE]


def program():
    """Helm: $HELM, or what `make helm` builds; None where there is none."""
    pinned = re.search(r"^HELM_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    found = Path(os.environ.get("HELM") or ROOT / ".dev" / "tools" / "bin" / f"helm-{pinned}")
    return found if os.access(found, os.X_OK) else None


def run(helm, words, values=()):
    """Exit code, stdout and stderr of helm with values: names of files of the chart, or dictionaries."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for i, given in enumerate(values):
            file = CHART / given if isinstance(given, str) else Path(folder) / f"{i}.json"
            if not isinstance(given, str):
                file.write_text(json.dumps(given))
            files += ["--values", file]
        # A helm of this folder alone, without the caches and plugins of the user.
        environment = os.environ | {f"HELM_{x}_HOME": folder for x in ("CACHE", "CONFIG", "DATA")}
        options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": SECONDS}
        done = subprocess.run([helm, *words, *files], check=False, env=environment, **options)
    return done.returncode, done.stdout, done.stderr


def render(helm, values, kubernetes="1.32", chart=CHART):
    code, stdout, stderr = run(helm, [*template(chart), "--kube-version", f"{kubernetes}.0"], values)
    if code:
        raise Failure(f"helm template with {values} failed: {complaint(stderr)}")
    return [document for document in yaml.safe_load_all(stdout) if document]


def complaint(stderr):
    """The error in what helm writes; it also reports the links that it follows."""
    lines = [line for line in stderr.splitlines() if "found symbolic link" not in line]
    return first_line("\n".join(lines)) if len(lines) < 2 else " ".join(line.strip() for line in lines)[:600]


def values_of(label):
    """The values for what a kustomization makes, by its label in dev.manifests.render; None if it has none."""
    folder = label.removeprefix("k8s/")
    if folder in FOLDERS:
        return list(FOLDERS[folder])
    if label.startswith("base with "):
        return [VALUES_OF[component] for component in label.removeprefix("base with ").split(", ")]
    return None


def comparable(docs):
    """The documents by kind and name, without what may differ."""
    found = {}
    for doc in copy.deepcopy(docs):
        template = job(doc)["template"] if workloads([doc]) else {}
        for metadata in (doc["metadata"], template.get("metadata", {})):
            drop(metadata, "labels", CHART_LABELS)
            drop(metadata, "annotations", CHART_ANNOTATIONS)
        if template:
            template["spec"]["volumes"] = by_name(template["spec"].get("volumes", []))
            for container in template["spec"]["containers"]:
                container["env"] = by_name(container.get("env", []))
        if doc["kind"] == "Job":
            doc["metadata"]["name"] = JOB_HASH.sub("", name(doc))
        found.setdefault(where(doc), []).append(doc)
    return found


def by_name(entries):
    """Variables or volumes in the order of their names, because a patch of a kustomization moves some to the front; and
    what a variable can refer to by $(NAME), which is what comes before it."""
    found, before = [], set()
    for entry in entries:
        referred = re.findall(r"\$\((\w+)\)", entry.get("value", ""))
        found.append(entry | ({"refers to": sorted(before & set(referred))} if referred else {}))
        before.add(entry["name"])
    return sorted(found, key=lambda entry: entry["name"])


def drop(metadata, field, keys):
    kept = {key: value for key, value in metadata.get(field, {}).items() if key not in keys}
    metadata.pop(field, None)
    if kept:
        metadata[field] = kept


def differences(kustomized, charted):
    """What the documents of a kustomization and of the chart do not have in common, one line each."""
    theirs, ours = comparable(kustomized), comparable(charted)
    for at in sorted(theirs.keys() | ours.keys()):
        wanted, made = theirs.get(at, []), ours.get(at, [])
        if len(wanted) != len(made) or len(wanted) != 1:
            yield f"{at}: {len(wanted)} in the kustomization, {len(made)} in the chart"
        else:
            yield from (f"{at}: {line}" for line in field_differences(wanted[0], made[0], ""))


def field_differences(wanted, made, path):
    if isinstance(wanted, dict) and isinstance(made, dict):
        for key in sorted(wanted.keys() | made.keys()):
            if key not in made:
                yield f"{path}/{key}: only in the kustomization: {json.dumps(wanted[key])[:120]}"
            elif key not in wanted:
                yield f"{path}/{key}: only in the chart: {json.dumps(made[key])[:120]}"
            else:
                yield from field_differences(wanted[key], made[key], f"{path}/{key}")
    elif isinstance(wanted, list) and isinstance(made, list) and len(wanted) == len(made):
        for i, (one, other) in enumerate(zip(wanted, made, strict=True)):
            yield from field_differences(one, other, f"{path}/{i}")
    elif isinstance(wanted, list) and isinstance(made, list):
        for one, others, place in ((wanted, made, "kustomization"), (made, wanted, "chart")):
            for entry in [entry for entry in one if entry not in others]:
                yield f"{path}: only in the {place}: {json.dumps(entry)[:120]}"
        yield f"{path}: {len(wanted)} entries in the kustomization, {len(made)} in the chart"
    elif type(wanted) is not type(made) or wanted != made:
        yield f"{path}: {json.dumps(wanted)[:120]} in the kustomization, {json.dumps(made)[:120]} in the chart"


# What the chart does not make, for the rules.
LISTENER = {"name": "https", "port": 8443, "protocol": "TCP", "allowedRoutes": {"namespaces": {"from": "All"}}}
STAND_INS = [
    {"apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "company"}, "spec": {"selfSigned": {}}},
    {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "shared"},
        "spec": {"gatewayClassName": "public", "listeners": [LISTENER]},
    },
    *(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "stringData": dict.fromkeys(keys, "x")}
        for secret, keys in OWN_SECRETS.items()
    ),
]


def for_the_rules(docs, stand_ins=()):
    """Copies of documents as the rules want them: with what the chart does not make, and Jobs named by the version."""
    docs = copy.deepcopy([*stand_ins, *docs])
    for doc in docs:
        doc["metadata"]["namespace"] = doc["metadata"].get("namespace", NAMESPACE)
        if doc["kind"] == "Job":
            doc["metadata"]["name"] = JOB_HASH.sub("", name(doc))
    return docs


def undeclared(schema, values, definitions, path=""):
    """The values that values.schema.json allows and values.yaml lacks."""
    schema = definitions.get(schema.get("$ref", "").removeprefix("#/definitions/"), schema)
    for key, inner in schema.get("properties", {}).items():
        if key not in values and key != "global":  # of a parent chart
            yield f"{path}{key}"
        elif isinstance(values.get(key), dict):
            yield from undeclared(inner, values[key], definitions, f"{path}{key}.")


def own_problems(helm, version):
    """What is wrong with the chart by itself: its versions, its values, and what helm's lint says."""
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    for field in ("version", "appVersion"):
        if about[field] != version:
            yield f"Chart.yaml: {field} is {about[field]}, but Cargo.toml has {version}"
    schema = json.loads((CHART / "values.schema.json").read_text())
    declared = yaml.safe_load((CHART / "values.yaml").read_text())
    paths = undeclared(schema, declared, schema["definitions"])
    yield from (f"values.yaml lacks {path}, which values.schema.json allows" for path in paths)
    for values in [*FOLDERS.values(), *(values for _, values, _ in VARIANTS)]:
        code, stdout, stderr = run(helm, ["lint", CHART, "--strict", "--namespace", NAMESPACE], values)
        if code:
            yield f"helm lint with {values}: {complaint(stdout + stderr)}"
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "captcha.tgz"
        subprocess.run([ROOT / "dev" / "chart.sh", archive], check=True)
        everything = FOLDERS["overlays/prod-ha"]
        if render(helm, everything, chart=archive) != render(helm, everything):
            yield "the archive that dev/chart.sh makes renders other documents than the folder"
    overlays = {str(folder.relative_to(K8S)) for folder in (K8S / "overlays").iterdir()}
    unknown = sorted(overlays - {*FOLDERS, *NOT_IN_CHART})
    yield from (f"k8s/{overlay} has no values in dev/manifests/chart.py" for overlay in unknown)


def refusals(helm, refused=None):
    """The wrong values that helm takes, or refuses without saying why."""
    for text, wanted in refused or REFUSED:
        code, _, stderr = run(helm, [*template(), "--set", text])
        if not code:
            yield f"helm template --set {text}: not refused"
        elif wanted not in stderr:
            yield f"helm template --set {text}: the message lacks '{wanted}': {complaint(stderr)}"
