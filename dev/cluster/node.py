"""What runs on a node. Started by machine.py in namespaces of its own, never by hand.

The first node is process 1 of the cluster: it makes the network, and starts etcd and the control plane. A second node
is a child of it, in a network and with mounts of its own."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dev.cluster import layout, programs, volumes
from dev.command import Failure, open_log, run, write

START_SECONDS = 180  # for one part of Kubernetes; on busy cores the API server takes half a minute
LOOK_SECONDS = 0.2
HARDWARE_ADDRESS = "02:00:00:00:{:02x}:{:02x}"
SMALL_BYTES = 20_000_000  # images of a second node: servers stay where their volumes are
PAUSE_IMAGE = "registry.k8s.io/pause:3.10"


class Node:
    def __init__(self, number):
        self.number = number
        self.name = layout.NODES[number]
        self.address = layout.NODE_ADDRESSES[number]
        self.pods = layout.POD_NETWORKS[number]
        self.folder = layout.FOLDER / self.name
        self.programs = programs.folder()
        self.children = {}

    def make_folders(self):
        """Folders of the system that containers and kubelets use: here they are the node's own."""
        call("mount", "--make-rshared", "/")
        call("mount", "-t", "tmpfs", "tmpfs", "/run")
        for path in ("/run/lock", "/run/netns"):
            Path(path).mkdir()
        for path in ("/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/etc/cni", "/var/log"):
            own = self.folder / path.lstrip("/")
            own.mkdir(parents=True, exist_ok=True)
            Path(path).mkdir(parents=True, exist_ok=True)
            call("mount", "--bind", own, path)
        for path in ("/var/log/pods", "/var/log/containers", "/etc/cni/net.d"):
            Path(path).mkdir(exist_ok=True)

    def make_network(self):
        call("ip", "link", "set", "lo", "up")
        if self.number == 0:
            # The wire between the nodes. The default route leads nowhere: addresses of services need some route.
            bridge("node", HARDWARE_ADDRESS.format(self.number, 1), f"{self.address}/24")
            call("ip", "route", "add", "default", "dev", "node")
        bridge("cni0", HARDWARE_ADDRESS.format(self.number, 2), f"{self.pods}.1/24")
        for setting in (
            "net.ipv4.ip_forward=1",
            "net.bridge.bridge-nf-call-iptables=1",
            "net.ipv4.conf.all.rp_filter=0",
        ):
            call("sysctl", "-q", "-w", setting)
        ipam = {"type": "host-local", "ranges": [[{"subnet": f"{self.pods}.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
        plugin = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipMasq": False}
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        conflist = {"cniVersion": "0.4.0", "name": "pods", "plugins": [plugin | {"ipam": ipam}, ports]}
        write(Path("/etc/cni/net.d/10-pods.conflist"), json.dumps(conflist))

    def start(self, name, *words):
        """Starts a program under its own name; one that ends is started again, as systemd would."""
        program = self.programs / name
        argv = [str(program if program.exists() else name), *map(str, words)]
        log = open_log(layout.LOGS / f"{self.name}-{name}.log")
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environ())
        os.close(log)
        self.children[child.pid] = (name, words)
        (self.folder / f"{name}.pid").write_text(f"{child.pid}\n")

    def environ(self):
        return {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"}

    def start_containerd(self):
        config = self.folder / "containerd.toml"
        write(config, CONTAINERD.format(pause=PAUSE_IMAGE))
        self.start("containerd", "--config", config)
        self.wait_for(["ctr", "version"])
        self.import_images()

    def import_images(self):
        """Gives the archives to containerd, unless it has had just these."""
        for archive in sorted(layout.IMAGES.glob("*.tar")):
            if self.number and archive.stat().st_size > SMALL_BYTES:
                continue
            seen = self.folder / f"{archive.stem}.imported"
            stamp = f"{archive.stat().st_size} {archive.stat().st_mtime_ns}\n"
            if not seen.exists() or seen.read_text() != stamp:
                call("ctr", "--namespace", "k8s.io", "images", "import", "--all-platforms", archive)
                write(seen, stamp)

    def start_control_plane(self):
        pki = layout.PKI
        # Without fsync: tests are not about the disk of etcd.
        self.start("etcd", "--data-dir", layout.FOLDER / "etcd", "--unsafe-no-fsync", "--log-level", "warn")
        self.start(
            "kube-apiserver",
            *("--advertise-address", self.address, "--secure-port", "6443", "--etcd-servers", "http://127.0.0.1:2379"),
            *("--service-cluster-ip-range", layout.SERVICES, "--allow-privileged", "--authorization-mode", "Node,RBAC"),
            *("--enable-admission-plugins", "NodeRestriction", "--client-ca-file", pki / "ca.crt"),
            *("--tls-cert-file", pki / "apiserver.crt", "--tls-private-key-file", pki / "apiserver.key"),
            *("--kubelet-certificate-authority", pki / "ca.crt"),
            *("--kubelet-client-certificate", pki / "apiserver-to-kubelet.crt"),
            *("--kubelet-client-key", pki / "apiserver-to-kubelet.key"),
            *("--kubelet-preferred-address-types", "InternalIP"),
            *("--service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
            *("--service-account-key-file", pki / "accounts.pub"),
            *("--service-account-signing-key-file", pki / "accounts.key"),
            *("--requestheader-client-ca-file", pki / "front-proxy-ca.crt"),
            *("--requestheader-allowed-names", "front-proxy-client"),
            *("--requestheader-extra-headers-prefix", "X-Remote-Extra-"),
            *("--requestheader-group-headers", "X-Remote-Group", "--requestheader-username-headers", "X-Remote-User"),
            *("--enable-aggregator-routing", "--proxy-client-cert-file", pki / "front-proxy.crt"),
            *("--proxy-client-key-file", pki / "front-proxy.key"),
        )
        self.wait_for(self.kubectl("get", "--raw", "/readyz"))
        for name in ("controller-manager", "scheduler"):
            config = layout.kubeconfig(name)
            words = ["--kubeconfig", config, "--authentication-kubeconfig", config, "--leader-elect=false"]
            words += ["--authorization-kubeconfig", config]
            if name == "controller-manager":
                words += ["--use-service-account-credentials", "--root-ca-file", pki / "ca.crt"]
                words += ["--service-account-private-key-file", pki / "accounts.key"]
                words += ["--cluster-signing-cert-file", pki / "ca.crt", "--cluster-signing-key-file", pki / "ca.key"]
            self.start(f"kube-{name}", *words)

    def start_agents(self):
        pki = layout.PKI
        resolv = self.folder / "resolv.conf"
        write(resolv, "")  # no way out, so no server of names there
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / f"serving-{self.name}.crt"),
            "tlsPrivateKeyFile": str(pki / f"serving-{self.name}.key"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{layout.CGROUP}/{self.name}",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "clusterDNS": [layout.DNS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(resolv),
            "failSwapOn": False,
            # A developer's disk is often almost full; the pods here write little.
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "podLogsDir": "/var/log/pods",
        }
        write(self.folder / "kubelet.json", json.dumps(config, indent=1))
        self.start(
            "kubelet",
            *("--config", self.folder / "kubelet.json", "--kubeconfig", layout.kubeconfig(f"kubelet-{self.name}")),
            *("--node-ip", self.address, "--hostname-override", self.name),
            *("--node-labels", f"topology.kubernetes.io/zone=zone-{'ab'[self.number]}"),
        )
        proxy = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(layout.kubeconfig("proxy"))},
            "clusterCIDR": layout.PODS,
            "hostnameOverride": self.name,
            "mode": "iptables",
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
        write(self.folder / "proxy.json", json.dumps(proxy, indent=1))
        self.start("kube-proxy", "--config", self.folder / "proxy.json")
        if self.number == 0:
            volumes.Provider(self.kubectl()).start()
        self.wait_for(self.kubectl("wait", "--for=condition=Ready", f"node/{self.name}", "--timeout=5s"))
        self.start(
            "policies",
            *("--kubeconfig", layout.kubeconfig("admin"), "--hostname-override", self.name),
            *("--service-cluster-ip-range", layout.SERVICES, "--iptables-sync-period", "30s"),
        )

    def kubectl(self, *words):
        return [self.programs / "kubectl", "--kubeconfig", layout.kubeconfig("admin"), *words]

    def wait_for(self, argv):
        """Runs a command until it succeeds."""
        end = time.monotonic() + START_SECONDS
        argv = list(map(str, argv))
        while True:
            done = subprocess.run(argv, check=False, capture_output=True, text=True, env=self.environ())
            if done.returncode == 0:
                return
            if time.monotonic() > end:
                raise Failure(f"{argv[0]} did not succeed in {START_SECONDS} s: {done.stderr.strip()[-300:]}")
            time.sleep(LOOK_SECONDS)

    def watch(self):
        """Collects what ends, for ever; a part that ended is started again after a second."""
        while True:
            try:
                pid, _status = os.wait()
            except ChildProcessError:
                time.sleep(1)
                continue
            if pid in self.children:
                name, words = self.children.pop(pid)
                time.sleep(1)
                self.start(name, *words)


def call(*words):
    done = subprocess.run([str(word) for word in words], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, words))}: {(done.stderr or done.stdout).strip()[-300:]}")


def bridge(name, hardware, address):
    call("ip", "link", "add", name, "address", hardware, "type", "bridge")
    call("ip", "address", "add", address, "dev", name)
    call("ip", "link", "set", name, "up")


# restrict_oom_score_adj: without CAP_SYS_RESOURCE nobody may lower the score, and containers would not start.
CONTAINERD = """version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"
]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
"""


def main():
    parser = argparse.ArgumentParser(prog="node", description=__doc__)
    parser.add_argument("number", type=int)
    node = Node(parser.parse_args().number)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    node.folder.mkdir(parents=True, exist_ok=True)
    call("hostname", node.name)
    node.make_folders()
    node.make_network()
    node.start_containerd()
    if node.number == 0:
        node.start_control_plane()
    node.start_agents()
    write(layout.READY.with_name(f"{layout.READY.name}-{node.number}"), "")
    node.watch()
    return 0


if __name__ == "__main__":
    run(main)
