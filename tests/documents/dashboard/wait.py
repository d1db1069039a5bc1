"""Waiting for what comes by itself."""

import time

from dev.command import Failure

PAUSE_SECONDS = 0.1


def until(reason, seconds):
    """Waits until reason() gives none why not."""
    end = time.monotonic() + seconds
    while (why := reason()) is not None:
        if time.monotonic() > end:
            raise Failure(f"after {seconds} s: {why}")
        time.sleep(PAUSE_SECONDS)
