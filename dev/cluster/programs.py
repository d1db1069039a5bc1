"""The programs of the cluster: built with Go from its module proxy, once, into .dev/tools.

Kubernetes 1.34 is the newest that runs everywhere: 1.35 and later refuse cgroup v1 unless they are configured
otherwise, and ask for containerd 2, which Debian 12 does not have."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from dev import disk
from dev.cluster import layout
from dev.command import STATE, Failure, step

# Commands that a node needs, and the Debian packages that bring them.
NEEDED = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "sysctl": "procps",
    "openssl": "openssl",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ipset": "ipset",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "busybox": "busybox-static",
    "jlink": "openjdk-17-jdk-headless",
    "cc": "gcc",
    "go": "golang (1.25 or newer)",
}
CNI_PLUGINS = "/usr/lib/cni/bridge"

DEFINITIONS = "cert-manager-definitions"

BUILD_BYTES = 3_500_000_000  # of Go's build cache and the programs


def missing():
    """Debian packages that are not installed, of those that the cluster needs."""
    packages = [package for command, package in NEEDED.items() if shutil.which(command) is None]
    if not os.path.exists(CNI_PLUGINS):
        packages.append("containernetworking-plugins")
    return list(dict.fromkeys(packages))


def folder():
    """Where the programs are once built. The name carries what they are built of: what is there is whole."""
    sources = sorted(path for path in layout.SOURCES.rglob("*") if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    return STATE / "tools" / f"kubernetes-{version()}-{digest}"


def version():
    for line in (layout.SOURCES / "go.mod").read_text().splitlines():
        words = line.split()
        if words[:1] == ["k8s.io/kubernetes"]:
            return words[1].removeprefix("v")
    raise Failure("dev/cluster/go/go.mod does not name k8s.io/kubernetes")


def build():
    """Returns the folder of the programs; builds them if they are not there: 6 to 10 minutes on two processors."""
    place = folder()
    if place.exists():
        return place
    packages = missing()
    if packages:
        raise Failure(f"cannot build the cluster: install {' '.join(packages)}")
    disk.need(STATE, BUILD_BYTES, "a build of Kubernetes")
    new = place.with_name(place.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    layout.LOGS.mkdir(parents=True, exist_ok=True)
    major, minor, _ = version().split(".")
    values = {
        "k8s.io/component-base/version.gitVersion": f"v{version()}",
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/client-go/pkg/version.gitVersion": f"v{version()}",
    }
    flags = "-s -w " + " ".join(f"-X {name}={value}" for name, value in values.items())
    environ = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false"}
    for program in sorted(path.name for path in layout.SOURCES.iterdir() if path.is_dir()):
        # In its folder: what has a go.mod of its own is built with its own versions.
        argv = ["go", "build", "-ldflags", flags, "-o", new / program, "."]
        log, place_of = layout.LOGS / f"build-{program}.log", layout.SOURCES / program
        step(f"build {program} ({version()}; once, minutes)", argv, log, cwd=place_of, env=environ)
    copy_definitions(new / DEFINITIONS)
    for name in (*layout.CONTROL_PLANE, "kubelet", "kube-proxy", "policies", "kubectl"):
        (new / name).symlink_to("kube")
    new.replace(place)
    return place


def copy_definitions(place):
    """Copies the definitions of cert-manager's kinds, which its module has besides the code."""
    argv = ["go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager"]
    done = subprocess.run(argv, cwd=layout.SOURCES / "cert-manager", check=True, capture_output=True, text=True)
    place.mkdir()
    for file in Path(done.stdout.strip(), "deploy", "crds").glob("*.yaml"):
        shutil.copyfile(file, place / file.name)
