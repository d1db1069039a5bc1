"""cert-manager itself: its own controllers and the definitions of its kinds, both from its Go module.

Its webhook is left out: the API server holds documents against the definitions, and the rest is for mistakes that
dev/manifests finds."""

import datetime
import json

from dev.cluster import images, kubectl, programs
from dev.cluster.operators.documents import CONTAINER_SECURITY, POD_SECURITY, metadata

SPACE = NAME = "cert-manager"
# What its controllers do, by group: {resources: verbs}.
RIGHTS = {
    "cert-manager.io": {"*": ["*"]},
    "gateway.networking.k8s.io": {
        "gateways,httproutes": ["get", "list", "watch"],
        "gateways/finalizers": ["update"],
    },
    "": {
        "secrets": ["get", "list", "watch", "create", "update", "patch", "delete"],
        "events": ["create", "patch"],
    },
}
# The issuer of certificates for the world, which an administrator sets up: here one that nobody else trusts.
PUBLIC_ISSUER = "public"
RENEW_SECONDS = 60


def definitions():
    """The folder of the definitions of its kinds: all of them, where the overlays use two."""
    return programs.folder() / programs.DEFINITIONS


def manifests():
    """What runs it, with no more rights than it uses."""
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": SPACE}
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(NAME, SPACE)}
    rights = "rbac.authorization.k8s.io"
    yield {
        "apiVersion": f"{rights}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": NAME},
        "rules": [
            {"apiGroups": [group], "resources": resources.split(","), "verbs": verbs}
            for group, allowed in RIGHTS.items()
            for resources, verbs in allowed.items()
        ],
    }
    yield {
        "apiVersion": f"{rights}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": NAME},
        "roleRef": {"apiGroup": rights, "kind": "ClusterRole", "name": NAME},
        "subjects": [account],
    }
    labels = {"app.kubernetes.io/name": NAME}
    container = {
        "name": NAME,
        "image": images.CERT_MANAGER,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": CONTAINER_SECURITY,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
    }
    pod = {"serviceAccountName": NAME, "securityContext": POD_SECURITY, "containers": [container]}
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(NAME, SPACE, labels),
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    yield {
        "apiVersion": "cert-manager.io/v1",
        "kind": "ClusterIssuer",
        "metadata": {"name": PUBLIC_ISSUER},
        "spec": {"selfSigned": {}},
    }


def renew(name, space):
    """Has a certificate issued again before its time, as `cmctl renew` does; waits until its Secret has the new one."""
    certificate = kubectl.read("get", "certificate", name, "--namespace", space)
    revision = certificate["status"]["revision"]
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    issuing = {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "lastTransitionTime": now}
    issuing |= {"message": "Certificate re-issuance manually triggered"}
    conditions = [*certificate["status"]["conditions"], issuing]
    patch = json.dumps({"status": {"conditions": conditions}})
    words = ["--namespace", space, "patch", "certificate", name, "--subresource=status", "--type=merge"]
    kubectl.run(*words, "--patch", patch)

    def issued():
        status = kubectl.read("get", "certificate", name, "--namespace", space)["status"]
        return status["revision"] > revision and all(one["type"] != "Issuing" for one in status["conditions"])

    return kubectl.wait_until(f"certificate {name} is issued again", issued, RENEW_SECONDS)
