"""The rendered documents of an overlay, looked at as an operator looks at them; and the parts that stand-ins share."""

from dev.command import Failure

POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


class Documents:
    def __init__(self, docs):
        self.docs = docs

    def all(self, kind):
        return [doc for doc in self.docs if doc["kind"] == kind]

    def one(self, kind):
        found = self.all(kind)
        if len(found) != 1:
            raise Failure(f"{len(found)} documents are a {kind}; one is wanted")
        return found[0]

    def namespace(self):
        (space,) = {doc["metadata"]["namespace"] for doc in self.docs if "namespace" in doc["metadata"]}
        return space


def need(given, known, what):
    """Refuses fields that are not carried out here."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise Failure(f"{what}: the stand-ins for operators do not know {', '.join(unknown)}")


def metadata(name, space, labels=None):
    return {"name": name, "namespace": space} | ({"labels": labels} if labels else {})


def secret(name, space, texts):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata(name, space), "stringData": texts}


def config_map(name, space, texts):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name, space), "data": texts}


def service(name, space, selector, ports, headless=True):
    spec = {"selector": selector, "ports": [{"name": f"p{port}", "port": port} for port in ports]}
    if headless:
        spec |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(name, space), "spec": spec}


def container(name, image, script, mounts, **fields):
    """A container that runs a script of the shell, under pod security `restricted`."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", script],
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in mounts.items()],
        **fields,
    }


def pod(containers, volumes, **fields):
    volumes = [{"name": name, **source} for name, source in volumes.items()]
    return {
        "securityContext": POD_SECURITY,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": containers,
        "volumes": volumes,
        **fields,
    }


def stateful_set(name, space, labels, replicas, governing, template, claim):
    """A StatefulSet whose pods keep their data in a claim of the name `claim`."""
    storage = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(name, space, labels),
        "spec": {
            "replicas": replicas,
            "serviceName": governing,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template},
            "volumeClaimTemplates": [{"metadata": {"name": claim}, "spec": storage}],
        },
    }
