"""Gives every claim of the default storage class a volume: a folder on the node, which stays when the claim goes."""

import json
import subprocess
import threading

from dev.cluster import layout

CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "folders", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "kubernetes.io/no-provisioner",
    "volumeBindingMode": "Immediate",
    "reclaimPolicy": "Retain",
}


class Provider(threading.Thread):
    """Follows the claims of all namespaces for as long as the node runs."""

    def __init__(self, kubectl):
        super().__init__(daemon=True)
        self.kubectl = [str(word) for word in kubectl]

    def run(self):
        self.apply(CLASS)
        while True:
            argv = [*self.kubectl, "get", "persistentvolumeclaims", "--all-namespaces", "--watch", "--output=json"]
            watch = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
            for claim in documents(watch.stdout):
                if claim["status"].get("phase") == "Pending" and not claim["spec"].get("volumeName"):
                    self.provide(claim)
            watch.wait()

    def provide(self, claim):
        name, space = claim["metadata"]["name"], claim["metadata"]["namespace"]
        volume = f"{space}-{name}"
        folder = layout.VOLUMES / volume
        folder.mkdir(parents=True, exist_ok=True)
        node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [layout.NODES[0]]}
        spec = {
            "accessModes": claim["spec"]["accessModes"],
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name, "namespace": space},
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]}},
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS["metadata"]["name"],
        }
        # A volume of a claim that is gone would wait for that very claim.
        subprocess.run([*self.kubectl, "delete", "persistentvolume", volume, "--ignore-not-found"], check=False)
        self.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": spec})

    def apply(self, document):
        subprocess.run([*self.kubectl, "apply", "-f", "-"], input=json.dumps(document), text=True, check=False)


def documents(stream):
    """The JSON documents of a stream, one after the other."""
    decoder, text = json.JSONDecoder(), ""
    for line in stream:
        text += line
        if line.startswith("}"):
            yield decoder.decode(text)
            text = ""
