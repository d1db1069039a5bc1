"""What rendered documents say of their pods, worked out as Kubernetes does: environment, files, probes, the end.

Whatever of a pod is not carried out here is refused, so that a setting that nobody tried cannot pass for one that
works."""

import base64
import re
from typing import NamedTuple

from dev.command import Failure

# Of pods and containers: what is carried out, then what means something to a cluster alone.
POD_FIELDS = {"containers", "volumes", "securityContext", "terminationGracePeriodSeconds", "enableServiceLinks"}
POD_FIELDS |= {"automountServiceAccountToken", "serviceAccountName", "restartPolicy", "topologySpreadConstraints"}
CONTAINER_FIELDS = {
    "name",
    "args",
    "command",
    "env",
    "envFrom",
    "ports",
    "volumeMounts",
    "securityContext",
    "lifecycle",
}
CONTAINER_FIELDS |= {"startupProbe", "livenessProbe", "readinessProbe", "resources", "image", "imagePullPolicy"}
SECURITY_FIELDS = {"runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "allowPrivilegeEscalation", "capabilities"}
SECURITY_FIELDS |= {"readOnlyRootFilesystem", "seccompProfile"}
PROBE_FIELDS = {"httpGet", "periodSeconds", "timeoutSeconds", "failureThreshold", "initialDelaySeconds"}

GRACE_SECONDS = 30  # Kubernetes' own, where a pod says nothing
MODE = 0o644  # of files of secrets and config maps, likewise
MEBIBYTES = {"Mi": 1, "Gi": 1024}


class Probe(NamedTuple):
    name: str
    scheme: str
    port: int
    path: str
    period_seconds: int
    timeout_seconds: int
    failures: int  # this many in a row mean something
    delay_seconds: int


class Volume(NamedTuple):
    at: str
    files: dict  # name: (mode, text); None for an empty folder
    read_only: bool


class Spec(NamedTuple):
    """One pod to be, with one container."""

    name: str
    address: str
    argv: list  # None: the image's own entry point
    args: list
    environ: dict
    volumes: list
    ports: dict
    probes: dict
    user: int
    group: int
    files_group: int  # None: there is none
    capabilities: list  # None: those of the runtime are kept
    may_escalate: bool
    read_only_root: bool
    pre_stop_seconds: int
    grace_seconds: int
    memory_mebibytes: int


class Documents:
    """The documents of one overlay, and the secrets that people and operators add."""

    def __init__(self, docs):
        self.docs = docs
        self.secrets = {}  # name: {key: text}

    def all(self, kind):
        return [doc for doc in self.docs if doc["kind"] == kind]

    def one(self, kind, component=None):
        label = "app.kubernetes.io/component"
        found = [d for d in self.all(kind) if component in (None, d["metadata"].get("labels", {}).get(label))]
        if len(found) != 1:
            raise Failure(f"{len(found)} documents are a {kind} {component or ''}; one is wanted")
        return found[0]

    def namespace(self):
        return self.one("Namespace")["metadata"]["name"]

    def replicas(self, workload):
        """How many pods a workload has; one without a number has as many as its autoscaler wants at least."""
        if "replicas" in workload["spec"]:
            return workload["spec"]["replicas"]
        name = workload["metadata"]["name"]
        scalers = [d for d in self.all("HorizontalPodAutoscaler") if d["spec"]["scaleTargetRef"]["name"] == name]
        return scalers[0]["spec"]["minReplicas"] if scalers else 1

    def spec(self, workload, name, address, labels=None):
        """What Kubernetes would start as the pod of this name."""
        template = workload["spec"]["template"]
        pod, containers = template["spec"], template["spec"]["containers"]
        known(pod, POD_FIELDS, name)
        if len(containers) != 1 or pod.get("enableServiceLinks") is not False:
            raise Failure(f"{name}: one container without service links can be run here, and no other pod")
        container = containers[0]
        known(container, CONTAINER_FIELDS, name)
        security = pod.get("securityContext", {}) | container.get("securityContext", {})
        known(security, SECURITY_FIELDS, name)
        labels = template["metadata"]["labels"] | (labels or {})
        fields = {f"metadata.labels['{key}']": value for key, value in labels.items()}
        fields |= {"metadata.name": name, "metadata.namespace": self.namespace(), "status.podIP": address}
        environ = self.environ(container, fields, name)
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        probes = ("startupProbe", "livenessProbe", "readinessProbe")
        user = security.get("runAsUser")
        if security.get("runAsNonRoot") and not user:
            raise Failure(f"{name}: Kubernetes would refuse to run it as root")
        return Spec(
            name=name,
            address=address,
            argv=container.get("command") and [expanded(word, environ) for word in container["command"]],
            args=[expanded(word, environ) for word in container.get("args", [])],
            environ=environ,
            volumes=[self.volume(mount, pod, name) for mount in container.get("volumeMounts", [])],
            ports=ports,
            probes={p: probe(p, container[p], ports, name) for p in probes if p in container},
            user=user,
            group=security.get("runAsGroup", 0),
            files_group=security.get("fsGroup"),
            capabilities=kept_capabilities(security, name),
            may_escalate=security.get("allowPrivilegeEscalation", True),
            read_only_root=security.get("readOnlyRootFilesystem", False),
            pre_stop_seconds=pre_stop_seconds(container, name),
            grace_seconds=pod.get("terminationGracePeriodSeconds", GRACE_SECONDS),
            memory_mebibytes=mebibytes(container.get("resources", {}).get("limits", {}).get("memory"), name),
        )

    def environ(self, container, fields, pod):
        environ = {}
        for source in container.get("envFrom", []):
            known(source, {"configMapRef"}, pod)
            environ |= self.data("ConfigMap", source["configMapRef"]["name"], pod)
        for entry in container.get("env", []):
            source = entry.get("valueFrom", {})
            known(source, {"fieldRef", "secretKeyRef", "configMapKeyRef"}, pod)
            if "fieldRef" in source:
                path = source["fieldRef"]["fieldPath"]
                if path not in fields:
                    raise Failure(f"{pod}: {entry['name']} comes from {path}, which the pod does not have")
                value = fields[path]
            elif source:
                ((kind, ref),) = source.items()
                value = self.key({"secretKeyRef": "Secret"}.get(kind, "ConfigMap"), ref["name"], ref["key"], pod)
            else:
                value = expanded(entry.get("value", ""), environ)
            environ[entry["name"]] = value
        return environ

    def data(self, kind, name, pod):
        if kind == "Secret" and name in self.secrets:
            return self.secrets[name]
        for doc in self.all(kind):
            if doc["metadata"]["name"] == name:
                plain = (
                    {k: base64.b64decode(v).decode() for k, v in doc["data"].items()}
                    if kind == "Secret"
                    else doc["data"]
                )
                return plain | doc.get("stringData", {})
        raise Failure(f"{pod}: it would wait for ever for the {kind} {name}, which nobody makes")

    def key(self, kind, name, key, pod):
        data = self.data(kind, name, pod)
        if key not in data:
            raise Failure(
                f"{pod}: it would wait for ever for key {key} of the {kind} {name}, which has {', '.join(data)}"
            )
        return data[key]

    def volume(self, mount, pod, name):
        known(mount, {"name", "mountPath", "readOnly"}, name)
        found = [volume for volume in pod.get("volumes", []) if volume["name"] == mount["name"]]
        if not found:
            raise Failure(f"{name}: there is no volume {mount['name']}")
        volume = found[0]
        known(volume, {"name", "secret", "configMap", "emptyDir"}, name)
        files = None
        for field, kind, named in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
            if field in volume:
                source = volume[field]
                known(source, {named, "items", "defaultMode"}, name)
                mode = source.get("defaultMode", MODE)
                items = source.get("items") or [
                    {"key": key, "path": key} for key in self.data(kind, source[named], name)
                ]
                files = {
                    item["path"]: (item.get("mode", mode), self.key(kind, source[named], item["key"], name))
                    for item in items
                }
        return Volume(mount["mountPath"], files, mount.get("readOnly", False))


def known(fields, wanted, pod):
    for field in fields:
        if field not in wanted:
            raise Failure(f"{pod}: {field} is not carried out here; teach tests/pods/manifests.py what it does")


def expanded(text, environ):
    """$(NAME) is the variable's value, a name that nobody knows stays as written, and $$ is a dollar."""

    def value(match):
        if match[0] == "$$":
            return "$"
        return environ.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([A-Za-z0-9_.-]+)\)", value, text)


def probe(kind, declared, ports, pod):
    known(declared, PROBE_FIELDS, pod)
    get = declared.get("httpGet", {})
    known(get, {"path", "port", "scheme"}, pod)
    port = get.get("port")
    if isinstance(port, str) and port not in ports:
        raise Failure(f"{pod}: {kind} asks port {port}, which the container does not have")
    return Probe(
        name=kind.removesuffix("Probe"),
        scheme=get.get("scheme", "HTTP"),
        port=ports.get(port, port),
        path=get.get("path", "/"),
        period_seconds=declared.get("periodSeconds", 10),
        timeout_seconds=declared.get("timeoutSeconds", 1),
        failures=declared.get("failureThreshold", 3),
        delay_seconds=declared.get("initialDelaySeconds", 0),
    )


def kept_capabilities(security, pod):
    capabilities = security.get("capabilities", {})
    if not capabilities:
        return None
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        raise Failure(f"{pod}: of capabilities only drop: [ALL] is carried out here")
    return []


def pre_stop_seconds(container, pod):
    lifecycle = container.get("lifecycle", {})
    known(lifecycle, {"preStop"}, pod)
    known(lifecycle.get("preStop", {}), {"sleep"}, pod)
    return lifecycle.get("preStop", {}).get("sleep", {}).get("seconds", 0)


def mebibytes(text, pod):
    found = re.fullmatch(r"(\d+)(Mi|Gi)", str(text))
    if not found:
        raise Failure(f"{pod}: its limit of memory is {text}, not this many Mi or Gi")
    return int(found[1]) * MEBIBYTES[found[2]]
