"""Events, and clients that send them until they are accepted."""

import json
import time
import uuid

from dev.command import Failure
from dev.testkit import http

SITES = [str(uuid.UUID(int=0x6F1C1F2E << 96 | 4 << 76 | 2 << 62 | number)) for number in range(5)]
TYPES = ("serve", "solve")

ANSWER_SECONDS = 60  # serve promises an answer in 5; the machine may have much else to do
SEND_SECONDS = 120  # after which a request that is refused again and again is given up
PAUSE_SECONDS = 0.1  # where the server does not say when to come back


def event(site_id, event_type="serve", correlation_id=None, moment="2001-01-01T05:55:07"):
    """One event; without a correlation id a new one."""
    correlation_id = str(correlation_id or uuid.uuid4())
    return {"site_id": site_id, "type": event_type, "correlation_id": correlation_id, "time": moment}


def to_json(made):
    return json.dumps(made, separators=(",", ":"))


def send(address, events, key=None):
    """Sends a list of events, or their JSON, until they are accepted; returns how often they were not."""
    body = events if isinstance(events, str) else to_json(events)
    headers = http.JSON | ({"Authorization": f"Bearer {key}"} if key else {})
    refused, end = 0, time.monotonic() + SEND_SECONDS
    while (answer := http.request(address, "POST", "/v1/events", body, headers, seconds=ANSWER_SECONDS)).status != 200:
        if answer.status not in (0, 503) or time.monotonic() > end:
            raise Failure(f"captcha serve answered {answer.status}: {answer.text[:300]}")
        refused += 1
        time.sleep(float(answer.headers.get("Retry-After", PAUSE_SECONDS)))
    return refused
