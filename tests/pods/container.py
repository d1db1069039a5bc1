"""Becomes one container: `container.py SPEC` on Linux, as root of a user namespace at least.

Does what a container runtime does: namespaces, a root of the image's files with the pod's volumes in it, the pod's user
without any capability, and then the program itself as process 1. Writes the pid of that process, waits for a line on
stdin, by when the network is there, and ends as the program ends: with its code, or 128 and the number of the signal
that ended it. 125: it could not be started."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

NEW_MOUNTS, NEW_NAMES, NEW_IPC, NEW_PIDS, NEW_NETWORK = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
DETACH = 2
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, AMBIENT_CLEAR_ALL = 23, 24, 38, 47, 4
PR_SET_PDEATHSIG = 1
NOT_STARTED = 125
DEVICES = ("null", "zero", "full", "random", "urandom")

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    """A function of the C library; OSError when it fails."""
    result = getattr(libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def do(*words):
    subprocess.run([str(word) for word in words], check=True, stdin=subprocess.DEVNULL)


def mount(kind, options, at):
    at.mkdir(parents=True, exist_ok=True)
    do("mount", "-t", kind, "-o", options, kind, at)


def make_root(spec, root):
    """The image's files on a file system of their own, and what a runtime adds to them."""
    mount("tmpfs", "mode=755,nodev", root)
    shutil.copytree(spec["image"], root, dirs_exist_ok=True)
    for folder, mode in (("proc", 0o555), ("sys", 0o555), ("dev", 0o755), ("etc", 0o755)):
        (root / folder).mkdir(mode=mode, exist_ok=True)
    (root / "etc" / "hostname").write_text(spec["name"] + "\n")
    (root / "etc" / "hosts").write_text(f"127.0.0.1 localhost\n{spec['address']} {spec['name']}\n")
    (root / "etc" / "resolv.conf").write_text(spec["resolver"])
    mount("proc", "nosuid,nodev,noexec", root / "proc")
    mount("sysfs", "ro,nosuid,nodev,noexec", root / "sys")
    mount("tmpfs", "mode=755,nosuid", root / "dev")
    for device in DEVICES:
        (root / "dev" / device).touch()
        do("mount", "--bind", f"/dev/{device}", root / "dev" / device)
    for volume in spec["volumes"]:
        add_volume(volume, spec["files_group"], root / volume["at"].lstrip("/"))


def add_volume(volume, group, at):
    """As the kubelet does: the files are in a folder of a date that a link points to, so that all change at once."""
    mount("tmpfs", "mode=1777,nosuid,nodev", at)
    if volume["files"] is not None:
        dated = at / "..2001_01_01"
        dated.mkdir(mode=0o755)
        for name, (mode, text) in volume["files"].items():
            file = dated / name
            file.write_text(text)
            file.chmod(mode)
            if group is not None:
                os.chown(file, 0, group)
            (at / name).symlink_to(f"..data/{name}")
        (at / "..data").symlink_to(dated.name)
    if group is not None:
        os.chown(at, 0, group)
        at.chmod(0o3777)
    if volume["read_only"]:
        do("mount", "-o", "remount,ro", at)


def join_network(spec):
    do("ip", "link", "set", "lo", "up")
    do("ip", "address", "add", f"{spec['address']}/{spec['prefix']}", "dev", spec["device"])
    do("ip", "link", "set", spec["device"], "up")
    do("ip", "route", "add", "default", "via", spec["gateway"])


def enter(spec, root):
    """Makes root the root of this process, and lets the old one go."""
    if spec["read_only_root"]:
        do("mount", "-o", "remount,ro", root)
    os.chdir(root)
    call("pivot_root", b".", b".")  # the old root is now on top of the new one
    call("umount2", b".", DETACH)
    os.chdir("/")


def become_user(spec):
    if spec["capabilities"] is not None:
        for number in range(64):
            if libc.prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1:
                call("prctl", PR_CAPBSET_DROP, number, 0, 0, 0)
        call("prctl", PR_CAP_AMBIENT, AMBIENT_CLEAR_ALL, 0, 0, 0)
    os.setgroups([] if spec["files_group"] is None else [spec["files_group"]])
    os.setresgid(*[spec["group"]] * 3)
    os.setresuid(*[spec["user"]] * 3)
    if not spec["may_escalate"]:
        call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def process_one(spec):
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    sys.stdin.readline()
    do("mount", "--make-rprivate", "/")
    socket.sethostname(spec["name"])
    join_network(spec)
    root = Path(spec["root"])
    make_root(spec, root)
    enter(spec, root)
    become_user(spec)
    os.umask(0o022)
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    for number in (signal.SIGPIPE, signal.SIGINT):  # Python's own handling would outlive exec
        signal.signal(number, signal.SIG_DFL)
    os.execve(spec["argv"][0], spec["argv"], spec["environ"])


def main():
    spec = json.loads(Path(sys.argv[1]).read_text())
    call("unshare", NEW_MOUNTS | NEW_NAMES | NEW_IPC | NEW_PIDS | NEW_NETWORK)
    pid = os.fork()  # the first one in the new namespace is process 1 there
    if pid == 0:
        try:
            process_one(spec)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"container.py: cannot start {spec['name']}: {error}", file=sys.stderr, flush=True)
        os._exit(NOT_STARTED)
    print(pid, flush=True)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
