"""Sample events that look like those of real sites: days and nights, weekends, one bad day. The same at each run, up to
the moment of the run."""

import math
import random
import uuid
from datetime import UTC, timedelta
from typing import NamedTuple

from dev.testkit import events

SEED = 1234
DAYS = 57  # the four weeks of the dashboard, the four before, and the first day of those
CHALLENGES = 60_000  # about: weekends have fewer, and later days more
EVENTS_EACH = 5_000

# Solve times are log-normal around this median, and no longer than a page stays open.
MEDIAN_SECONDS = 3.9
SIGMA = 0.62
SOLVE_SECONDS_MAX = 1_200

GROWTH = 0.16  # more challenges on the last day than on the first
NOISE = 0.06
RATE_NOISE = 0.008
FIRST_RATE = 0.95  # of the solves of the last day
FIRST_SLOWNESS = 1.12  # solve times of the first day, as a multiple of those of the last
WEEKEND = {5: 0.66, 6: 0.58}  # Saturday and Sunday
PEAK_HOURS = (11.5, 2.6, 1.0), (19.5, 2.4, 0.85)  # the hour, how wide, how high
NIGHT = 0.09

BAD_DAYS_AGO = 10
BAD_RATE = 0.72  # of the solves of a usual day


class Site(NamedTuple):
    site_id: str
    name: str
    share: float  # of all challenges
    solve_rate: float
    slowness: float = 1.0  # solve times, as a multiple of the usual ones


def site_id(number):
    return str(uuid.UUID(int=random.Random(number).getrandbits(128), version=4))


SITES = [
    Site(site_id(number), *fields)
    for number, fields in enumerate(
        [
            ("Shop checkout", 24, 0.951, 0.9),
            ("Sign-up form", 18, 0.884, 1.1),
            ("Log in", 15, 0.946, 0.8),
            ("Newsletter", 11, 0.792, 1.05),
            ("Contact form", 8, 0.713, 1.4),
            ("Password reset", 6, 0.905, 1.0),
            ("Product reviews", 5, 0.847, 1.25),
            ("Support tickets", 4, 0.918, 1.3),
            ("Gift cards", 3, 0.634, 1.1),
            ("Job applications", 2.5, 0.932, 1.7),
            ("Partner portal", 2, 0.967, 0.85),
            ("Event tickets", 1.5, 0.871, 0.95),
        ]
    )
]


def names_file():
    return "".join(f"{site.site_id} {site.name}\n" for site in SITES)


def make(now):
    """Events up to now, in the order of time."""
    chance = random.Random(SEED)
    begin = (now - timedelta(days=DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    shares = [site.share for site in SITES]
    made = []
    for day in range(DAYS + 1):
        date = begin + timedelta(days=day)
        weight = (1 + GROWTH * day / DAYS) * WEEKEND.get(date.weekday(), 1) * (1 + chance.gauss(0, NOISE))
        slowness = FIRST_SLOWNESS + (1 - FIRST_SLOWNESS) * day / DAYS
        rate = FIRST_RATE + (1 - FIRST_RATE) * day / DAYS + chance.gauss(0, RATE_NOISE)
        if day == DAYS - BAD_DAYS_AGO:
            rate *= BAD_RATE
        for _ in range(round(weight * CHALLENGES / DAYS)):
            site = chance.choices(SITES, shares)[0]
            served = date + timedelta(hours=hour(chance))
            seconds = min(site.slowness * slowness * drawn_seconds(chance), SOLVE_SECONDS_MAX)
            correlation_id = uuid.UUID(int=chance.getrandbits(128), version=4)
            made.append((served, "serve", site.site_id, correlation_id))
            if chance.random() < site.solve_rate * rate:
                made.append((served + timedelta(seconds=seconds), "solve", site.site_id, correlation_id))
    return sorted((one for one in made if one[0] <= now), key=lambda one: one[0])


def drawn_seconds(chance):
    return chance.lognormvariate(math.log(MEDIAN_SECONDS), SIGMA)


def hour(chance):
    """A time of day at which people are awake more often than not."""
    while True:
        drawn = chance.random() * 24
        height = NIGHT + sum(high * math.exp(-(((drawn - peak) / wide) ** 2)) for peak, wide, high in PEAK_HOURS)
        if chance.random() < height:
            return drawn


def post(port, made):
    for begin in range(0, len(made), EVENTS_EACH):
        sent = [
            events.event(site_id, event_type, correlation_id, moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
            for moment, event_type, site_id, correlation_id in made[begin : begin + EVENTS_EACH]
        ]
        events.send(port, sent)
