"""Which Prometheus the checks use: the Makefile pins it for promtool, and the cluster's checks run the same."""

import re

from dev.command import ROOT, Failure


def version():
    """Of the Go module."""
    found = re.search(r"^PROMETHEUS := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if not found:
        raise Failure("the Makefile does not pin PROMETHEUS")
    return found[1]
