"""Free ports on 127.0.0.1, outside the range that the kernel gives to outgoing connections."""

import random
import socket

from dev.command import Failure

FIRST, LAST = 20000, 32000


def ephemeral():
    """The kernel's range for outgoing connections; a port in it can be taken between choosing and binding it."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            low, high = map(int, file.read().split())
            return low, high
    except (OSError, ValueError):
        return 49152, 65535


def is_free(port):
    """Whether a server could listen on the port now. Like servers do, it overlooks connections that are closing."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
            return True
        except OSError:
            return False


def pick(count=1):
    """That many different free ports, from a random start so that two callers rarely meet."""
    low, high = ephemeral()
    candidates = [port for port in range(FIRST, LAST) if not low <= port <= high]
    if not candidates:  # a machine whose ephemeral range covers ours: below it is safer than in it
        candidates = list(range(1024, low))
    random.shuffle(candidates)
    chosen = []
    for port in candidates:
        if is_free(port):
            chosen.append(port)
            if len(chosen) == count:
                return chosen
    raise Failure(f"cannot find {count} free ports between {FIRST} and {LAST}; stop what listens on them")


def kept(file):
    """The port written in the file if it is still free, else a new one."""
    try:
        port = int(file.read_text())
    except (OSError, ValueError):
        return pick()[0]
    return port if is_free(port) else pick()[0]
