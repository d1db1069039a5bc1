"""What Linux says of processes: processor time and memory; and processes that end with their parent."""

import os
import signal
import sys
from pathlib import Path

from dev import process

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """Processor time of a living process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def tree_cpu_seconds(pid):
    """Processor time of a process and of its living descendants."""
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in words(task / "children")]
    return cpu_seconds(pid) + sum(map(tree_cpu_seconds, children))


def machine_cpu_seconds():
    """Processor time of everything on this machine, and what its host took away (steal)."""
    user, nice, system, _idle, _wait, interrupts, soft, steal = map(int, words("/proc/stat")[1:9])
    return (user + nice + system + interrupts + soft + steal) / TICKS


def peak_bytes(pid):
    """The most memory that a living process ever had (VmHWM); None when it has none any more."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    sizes = [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")]
    return sizes[0] if sizes else None


def words(file):
    return Path(file).read_text().split()


def load_average():
    """The load averages, as uptime has them."""
    return "load average " + ", ".join(f"{value:.1f}" for value in os.getloadavg())


def kill_with_parent():
    """For preexec_fn: the kernel kills this process when its parent ends. SIGTERM would not end one that is frozen."""
    if sys.platform.startswith("linux"):
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
