"""Where the cluster of this checkout keeps its files, its names and its addresses.

The cluster runs in network, mount and process namespaces of its own, without a way out. So several clusters may have
the same addresses, nobody else meets them, and all of it ends with one process."""

import hashlib

from dev.command import DEV, ROOT, STATE

FOLDER = STATE / "cluster"
LOGS = FOLDER / "logs"
PKI = FOLDER / "pki"
IMAGES = FOLDER / "images"
VOLUMES = FOLDER / "volumes"
PID = FOLDER / "pid"  # of the first process inside, as this machine counts
READY = FOLDER / "ready"  # what the node writes when it is up
KEPT_SYSCTLS = FOLDER / "sysctls"
KUBECTL = FOLDER / "kubectl"
ENTER = FOLDER / "enter"
SOURCES = DEV / "cluster" / "go"

# Of this checkout alone: cgroups are the one thing that namespaces do not part.
CGROUP = "captcha-cluster-" + hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]

NODES = ("node-0", "node-1")
NODE_ADDRESSES = ("10.98.0.1", "10.98.0.2")
API_SERVER = f"https://{NODE_ADDRESSES[0]}:6443"
PODS = "10.244.0.0/16"
POD_NETWORKS = ("10.244.0", "10.244.1")  # the first three numbers, for each node
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS = "10.96.0.10"

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def kubeconfig(name):
    return PKI / f"{name}.conf"
