"""Starts and ends the namespaces in which the cluster lives, from outside."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from dev import process
from dev.cluster import layout, pki, programs
from dev.command import ROOT, Failure, open_log, say_over, shown, tail, write

START_SECONDS = 300
END_SECONDS = 30
LOOK_SECONDS = 0.2
CGROUPS = Path("/sys/fs/cgroup")
# The kubelet sets these for the whole machine.
SYSCTLS = ("vm.overcommit_memory", "kernel.panic", "kernel.panic_on_oops")


def pid():
    """The first process inside, or None where no cluster of this checkout runs."""
    try:
        number, birth = layout.PID.read_text().split()
    except (OSError, ValueError):
        return None
    return int(number) if process.born(int(number)) == birth else None


def need_pid():
    number = pid()
    if not number:
        raise Failure("no cluster of this checkout runs; start it with make cluster")
    return number


def enter(*words):
    """The command line that runs words on the first node."""
    argv = [
        "nsenter",
        "--target",
        str(need_pid()),
        "--net",
        "--mount",
        "--pid",
        "--uts",
        "--ipc",
        f"--wd={os.getcwd()}",
        "--",
    ]
    return [*argv, *map(str, words)]


def impossible():
    """Why no cluster can run here, in words; nothing if one can."""
    if not sys.platform.startswith("linux"):
        return "a cluster needs Linux"
    packages = programs.missing()
    if packages:
        return f"a cluster needs what is not installed; on Debian: apt-get install {' '.join(packages)}"
    if os.geteuid() != 0:
        return "a cluster needs root, for network devices, mounts and cgroups; run it with sudo"
    trial = ["unshare", "--net", "--mount", "--pid", "--fork", "ip", "link", "add", "trial", "type", "bridge"]
    tried = subprocess.run(trial, check=False, capture_output=True, text=True)
    if tried.returncode != 0:
        return f"this system does not let root make namespaces and bridges: {tried.stderr.strip()}"
    return ""


def enter_network(*words):
    """The command line that runs words in the network of the first node alone: what it starts outlives the node."""
    return ["nsenter", "--target", str(need_pid()), "--net", "--", *map(str, words)]


def start():
    """Starts the cluster and waits until its node is ready."""
    reason = impossible()
    if reason:
        raise Failure(reason)
    if pid():
        return
    # The namespaces keep it for as long as they live, so that nobody starts a second cluster on the same files.
    lock = process.lock(layout.FOLDER / "lock")
    if lock is None:
        raise Failure("another command starts or ends the cluster of this checkout; try again when it is done")
    layout.LOGS.mkdir(parents=True, exist_ok=True)
    pki.make()
    make_cgroups()
    if not layout.KEPT_SYSCTLS.exists():
        write(layout.KEPT_SYSCTLS, "".join(f"{name}={read_sysctl(name)}\n" for name in SYSCTLS))
    ready = layout.READY.with_name(f"{layout.READY.name}-0")
    ready.unlink(missing_ok=True)
    log = layout.LOGS / "node-0.log"
    output = open_log(log)
    begin = os.fstat(output).st_size
    flags = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    argv = ["unshare", *flags, "--propagation", "private", sys.executable, "-m", "dev.cluster.node", "0"]
    outer = subprocess.Popen(
        argv,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        pass_fds=(lock,),
    )
    os.close(output)
    os.close(lock)
    began = time.monotonic()
    while not ready.exists():
        if outer.poll() is not None or time.monotonic() - began > START_SECONDS:
            lines = "; ".join(tail(log, 3, begin)) or "it printed nothing"
            outer.kill()
            clean()
            raise Failure(f"the node does not come up: {lines}; logs are in {shown(layout.LOGS)}")
        say_over(f"start Kubernetes ... {time.monotonic() - began:.0f} s")
        remember(outer.pid)
        time.sleep(LOOK_SECONDS)
    say_over("")


def start_second():
    """Starts the second node, in a network of its own that a wire joins to the first one's."""
    name, address, pods = layout.NODES[1], layout.NODE_ADDRESSES[1], layout.POD_NETWORKS[1]
    inside = ["ip", "netns", "exec", name]
    for words in (
        ["ip", "netns", "add", name],
        ["ip", "link", "add", "wire", "type", "veth", "peer", "name", "eth0", "netns", name],
        ["ip", "link", "set", "wire", "master", "node", "up"],
        [*inside, "ip", "address", "add", f"{address}/24", "dev", "eth0"],
        [*inside, "ip", "link", "set", "eth0", "up"],
        [*inside, "ip", "route", "add", "default", "via", layout.NODE_ADDRESSES[0]],
        ["ip", "route", "add", f"{pods}.0/24", "via", address],
    ):
        done = subprocess.run(enter(*words), check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure(f"cannot join a second node: {' '.join(words)}: {done.stderr.strip()}")
    ready = layout.READY.with_name(f"{layout.READY.name}-1")
    ready.unlink(missing_ok=True)
    output = open_log(layout.LOGS / f"{name}.log")
    program = ["unshare", "--mount", "--uts", "--propagation", "private", sys.executable, "-m", "dev.cluster.node", "1"]
    # `ip netns exec` would mount /sys again, without its cgroups.
    argv = enter("nsenter", f"--net=/run/netns/{name}", "--", *program)
    outer = subprocess.Popen(
        argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
    )
    os.close(output)
    last = time.monotonic() + START_SECONDS
    while not ready.exists():
        if outer.poll() is not None or time.monotonic() > last:
            outer.kill()
            raise Failure(f"the second node does not come up: {'; '.join(tail(layout.LOGS / f'{name}.log', 3))}")
        time.sleep(LOOK_SECONDS)


def remember(outer):
    """Writes down the process inside, once it is there."""
    if layout.PID.exists() and pid():
        return
    children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    if children:
        write(layout.PID, f"{children[0]} {process.born(int(children[0]))}\n")


def end():
    """Ends everything inside at once, and what it leaves outside. The cluster's data stays."""
    number = pid()
    if number:
        os.kill(number, signal.SIGKILL)
        last = time.monotonic() + END_SECONDS
        while pid() and time.monotonic() < last:
            time.sleep(LOOK_SECONDS)
        if pid():
            raise Failure(f"process {number}, the cluster, was killed and is still there after {END_SECONDS} s")
    clean()


def clean():
    """Puts back what the cluster changed outside of its namespaces."""
    layout.PID.unlink(missing_ok=True)
    if layout.KEPT_SYSCTLS.exists():
        for line in layout.KEPT_SYSCTLS.read_text().splitlines():
            subprocess.run(["sysctl", "-q", "-w", line], check=False)
        layout.KEPT_SYSCTLS.unlink()
    for top in CGROUPS.glob(f"*/{layout.CGROUP}"):
        # A cgroup is empty a moment after its last process ended.
        last = time.monotonic() + END_SECONDS
        while top.exists() and time.monotonic() < last:
            remove_cgroup(top)
            time.sleep(LOOK_SECONDS if top.exists() else 0)


def remove_cgroup(top):
    for folder, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def remove_data():
    """Removes the state of the cluster; the programs and images stay."""
    for folder in (*layout.NODES, "etcd", "volumes", "pki", "logs", "operators", "api-keys"):
        shutil.rmtree(layout.FOLDER / folder, ignore_errors=True)


def make_cgroups():
    """The cgroup that the node's pods are in, for each controller; cgroup v2 has one for all."""
    for controller in CGROUPS.iterdir():
        if not controller.is_dir() or controller.name == "unified":
            continue
        for name in (layout.CGROUP, *(f"{layout.CGROUP}/{node}" for node in layout.NODES)):
            own = controller / name
            own.mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (own / file).exists():
                    (own / file).write_text((own.parent / file).read_text())


def read_sysctl(name):
    return Path("/proc/sys", *name.split(".")).read_text().strip()
