"""The questions of `make bench-report`: as `captcha` is asked, and as a query on the rows."""

import datetime
from typing import NamedTuple
from urllib.parse import urlencode

from dev.bench import fill

HALF_HOUR_ZONE = "Asia/Kathmandu"  # +05:45: its days are made of quarter hours
ZONES = ("UTC", HALF_HOUR_ZONE)
INTERVAL_DAYS = {"day": 30, "hour": 7, "month": None}  # the last ones; all
METRICS = ("served,solved", "solve_rate", "solve_time_p50")
PLAIN = METRICS[0]

BUCKETS = {
    "day": "toStartOfDay({}, '{}')",
    "hour": "toStartOfHour({}, '{}')",
    "month": "toStartOfMonth({}, '{}')",
}
# A pair counts in the bucket of its serve.
SERVE_TIME = "time - toIntervalMicrosecond(if(type = 'solve', solve_after_micros, 0))"
PAIR = "other_month != 0"
HOUR_MICROS = 3_600_000_000  # solve_within, as long as nobody asks for another one
ROW_METRICS = {
    "served,solved": "countIf(type = 'serve') AS served, countIf(type = 'solve') AS solved",
    "solve_rate": "countIf(role = 'first') AS challenges,"
    f" countIf({PAIR} AND solve_after_micros <= {HOUR_MICROS}) / challenges",
    "solve_time_p50": "countIf(role = 'first') AS challenges,"
    f" quantileIf(0.5)(greatest(solve_after_micros, 0), {PAIR})",
}


class Question(NamedTuple):
    sites_name: str
    site_ids: list
    interval: str
    metrics: str
    timezone: str
    first: str  # the first day, included
    end: str  # the day after the last one

    @property
    def name(self):
        return self.sites_name, self.interval, self.metrics, self.timezone

    @property
    def is_plain(self):
        """Whether the form answers it that never changes."""
        return (self.interval, self.metrics, self.timezone) == ("day", PLAIN, "UTC")

    @property
    def parameters(self):
        """Names and values, without those that have their defaults: one more makes another form of the answer."""
        sites = [("site_id", site) for site in self.site_ids]
        range_ = [("from", self.first), ("to", self.end)]
        if self.is_plain:
            return [*sites, *range_]
        more = [("interval", self.interval), ("metrics", self.metrics), ("timezone", self.timezone)]
        return [*sites, *range_, *more]

    @property
    def path(self):
        return "/v1/report?" + urlencode(self.parameters)

    @property
    def words(self):
        """The same as words of the command."""
        return [word for name, value in self.parameters for word in (f"--{name.replace('_', '-')}", value)]

    def rows_sql(self, database):
        """The same from rows, without projections. Rates and solve times come from the stored roles, in one pass."""
        time = "time" if self.metrics == PLAIN else SERVE_TIME
        bucket = BUCKETS[self.interval].format(time, self.timezone)
        sites = ", ".join(f"'{site}'" for site in self.site_ids)
        filters = ["kind = 'event'", "repeat = 0", *([f"site_id IN ({sites})"] if sites else [])]
        for sign, day in ((">=", self.first), ("<", self.end)):
            filters.append(f"time {sign} toDateTime64('{day} 00:00:00', 6, '{self.timezone}')")
        return (
            f"SELECT {bucket} AS bucket, site_id, {ROW_METRICS[self.metrics]}"
            f" FROM {database}.events WHERE {' AND '.join(filters)} GROUP BY bucket, site_id"
            " SETTINGS optimize_use_projections = 0, optimize_use_implicit_projections = 0, use_query_cache = 0"
        )


def questions(sites, days):
    """Every question, of a table that has these sites, the busiest first, and this number of days."""
    some = {
        "hot site": sites[:1],
        "cold site": sites[-1:],
        "ten sites": sites[::100][:10] if len(sites) >= 1000 else sites[:10],
        f"{len(sites):,} sites": [],
    }
    return [
        question(name, site_ids, interval, metrics, timezone, days)
        for interval in INTERVAL_DAYS
        for name, site_ids in some.items()
        for metrics in METRICS
        for timezone in ZONES
    ]


def question(name, site_ids, interval, metrics, timezone, days):
    end = datetime.date.fromisoformat(fill.FIRST_DAY) + datetime.timedelta(days)
    first = end - datetime.timedelta(min(INTERVAL_DAYS[interval] or days, days))
    return Question(name, site_ids, interval, metrics, timezone, str(first), str(end))
