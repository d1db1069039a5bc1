"""Room on the disk: asks for it before work begins, and finds in a log that it ran out."""

import os
import re
import shutil

from dev.command import Failure, shown, tail

SERVERS_BYTES = 300 * 10**6  # of Kafka and ClickHouse with a topic and some events, their logs among it
ALMOST_NOTHING = 4 * 10**6  # a server that ended with less than this left had no room, even if its log could not say so
SIGNS = re.compile("no space left on device|ENOSPC|not enough space|disk quota exceeded", re.IGNORECASE)


def size(count):
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def free(folder):
    """Bytes that may still be written in the folder, which need not be there yet."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free


def fullest(*folders):
    return min(folders, key=free)


def need(folder, wanted, purpose):
    """Fails if there are fewer bytes than `wanted` for what `purpose` names."""
    if free(folder) < wanted:
        raise no_space(folder, wanted, purpose)


def no_space(folder, wanted, purpose, log=None):
    """The failure of work that found no room in the folder; `log` has the rest."""
    where = f"; its log is {shown(log)}" if log else ""
    return Failure(
        f"no space left on the disk of {shown(folder)}: {purpose} needs {size(wanted)}, {size(free(folder))} are free;"
        f" make room and try again{where}"
    )


def ran_out(log, folder, begin=0):
    """Whether what wrote this log from `begin` on failed because the disk is full."""
    return free(folder) < ALMOST_NOTHING or any(SIGNS.search(line) for line in tail(log, 200, begin))
