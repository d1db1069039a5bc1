"""Processes and locks: end with the parent, tell a process from a later one with the same id, lock a file."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1

# Loaded here and not in die_with_parent, which runs between fork and exec.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def prctl(option, value):
    _libc.prctl(option, value, 0, 0, 0)


def die_with_parent(parent):
    """Makes the kernel end this process with SIGTERM when the thread that started it ends; only Linux can."""
    if _libc is None:
        return
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGTERM)


def born(pid):
    """When the living process `pid` started, as an opaque text; None if there is none. A zombie does not live."""
    if os.path.isdir("/proc/self"):
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    answer = subprocess.run(["ps", "-o", "state=,lstart=", "-p", str(pid)], check=False, capture_output=True, text=True)
    state, _, when = answer.stdout.strip().partition(" ")
    return when.strip() if when and not state.startswith("Z") else None


def catches(pid, number):
    """Whether the process has a handler for the signal, where /proc tells it. GNU make has none for SIGINT once it got
    one: it assumes that its children got it too, and waits for them."""
    try:
        with open(f"/proc/{pid}/status") as file:
            caught = next(line for line in file if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return False
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def children():
    """The pids of this process's children, where /proc tells them."""
    found = []
    me = str(os.getpid())
    for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parent = file.read().rpartition(")")[2].split()[1]
            except (OSError, IndexError):
                continue
            if parent == me:
                found.append(int(entry))
    return found


def signal_to(pid, number):
    """Sends a signal; a process that is gone already is fine."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def wait_gone(pid, birth, seconds):
    """Whether the process (not a later one with its id) was gone before the time was up."""
    end = time.monotonic() + seconds
    while born(pid) == birth:
        if time.monotonic() >= end:
            return False
        time.sleep(0.05)
    return True


def lock(path, seconds=0.0):
    """Locks the file and returns its descriptor, or None if others held it for all that time.

    The kernel frees the lock when the last process that has the descriptor ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(descriptor)
                return None
        time.sleep(0.1)
