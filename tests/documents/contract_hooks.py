"""What JSON Schema cannot say of requests, told to schemathesis: which times, days and time zones there are, what lines
hold, and which parameters of a report go together."""

import datetime
import json

import schemathesis
from hypothesis import strategies as st

NDJSON = "application/x-ndjson"


@schemathesis.hook
def before_load_schema(_context, raw_schema):
    """Gives the texts that have a meaning formats of their own, which are generated below."""
    raw_schema["components"]["schemas"]["Event"]["properties"]["time"]["format"] = "captcha-time"
    # Of the receipts that there may be, the one that there is.
    raw_schema["components"]["parameters"]["Wait"]["schema"] = {"type": "string", "enum": ["0:0"]}
    raw_schema["paths"]["/v1/events"]["post"]["requestBody"]["content"][NDJSON]["schema"]["format"] = "captcha-lines"

    parameters = raw_schema["components"]["parameters"]
    for name in ("From", "To"):
        parameters[name]["schema"] = {"type": "string", "format": "captcha-bound"}
    parameters["Timezone"]["schema"] = {"type": "string", "format": "captcha-zone"}


# Days that a report with rows for buckets without an event may cover here: 744 hours of each site.
FILLED_DAYS_MAX = 31
# Local time is never further from UTC.
ZONE_HOURS = datetime.timedelta(hours=26)
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "Etc/GMT+12", "EST5EDT")


@schemathesis.hook
def map_query(_context, query):
    """Makes parameters of a report go together that are right by themselves; what is wrong stays in the query."""
    if not query:
        return query
    query = ordered(dict(query))
    first, after = moment(query, "from"), moment(query, "to")
    if word(query, "period") in PERIODS and not (is_wrong(query, "from") or is_wrong(query, "to")):
        query = without(query, "from", "to")
        first = after = None
    is_bounded = word(query, "period") in PERIODS - {"all"} or {"from", "to"} <= query.keys()
    is_long = first and after and after - first > datetime.timedelta(days=FILLED_DAYS_MAX)
    if word(query, "fill") == "zero" and (not is_bounded or is_long):
        query = without(query, "fill")
    if word(query, "compare") in COMPARES and not is_bounded:
        query = without(query, "compare")
    if word(query, "by") == "none" and str(query.get("top")) in TOPS:
        query = without(query, "top")
    return query


@schemathesis.hook
def before_call(_context, case, _kwargs):
    """The same for requests that are not generated at random, but made of each value that the document names."""
    is_listed = case.meta and case.meta.phase.name.value in ("examples", "coverage")
    if is_listed and case.path in ("/v1/report", "/v1/report.svg", "/v1/dashboard"):
        case.query = map_query(None, case.query)


PERIODS = {"today", "yesterday", "24h", "7d", "28d", "30d", "91d", "month", "last_month", "year", "12mo", "all"}
COMPARES = {"previous_period", "previous_week", "year_over_year"}
TOPS = {str(top) for top in range(1, 101)}


def ordered(query):
    """Puts the bounds of a range in order, where both are right and far enough from each other in every time zone."""
    first, after = moment(query, "from"), moment(query, "to")
    if first is None or after is None:
        return query
    if abs(after - first) <= ZONE_HOURS:
        return without(query, "to")
    return query if first < after else query | {"from": query["to"], "to": query["from"]}


def without(query, *names):
    return {name: value for name, value in query.items() if name not in names}


def word(query, name):
    """A value of one word; in a bad request it may be anything."""
    value = query.get(name)
    return value if isinstance(value, str) else None


def is_wrong(query, name):
    return name in query and moment(query, name) is None


def moment(query, name):
    """A bound as an instant, of a day its first one in UTC."""
    text = query.get(name)
    try:
        if len(text) == len("2001-01-31"):
            day = datetime.date.fromisoformat(text)
            return datetime.datetime.combine(day, datetime.time(), datetime.UTC)
        instant = datetime.datetime.fromisoformat(text.upper())
        return instant if instant.tzinfo else None
    except (AttributeError, TypeError, ValueError):
        return None


def bounds():
    """Days, and instants with an offset."""
    days = st.dates(datetime.date(1, 1, 1)).map(str)
    instants = st.datetimes(datetime.datetime(1970, 1, 2), datetime.datetime(2200, 12, 30))
    offsets = st.sampled_from(["Z", "z", "+05:45", "-0330", "+14"])
    return st.one_of(days, st.builds(lambda instant, offset: f"{instant:%Y-%m-%dT%H:%M:%S}{offset}", instants, offsets))


def times():
    """Times that a day and a clock have, between the years 1970 and 2200 in UTC, whatever the offset."""
    moments = st.datetimes(datetime.datetime(1970, 1, 2), datetime.datetime(2200, 12, 30))
    fractions = st.from_regex(r"([.][0-9]{1,9})?", fullmatch=True)
    offsets = st.from_regex(r"(Z|z|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)?", fullmatch=True)
    return st.builds(
        lambda moment, t, fraction, offset: f"{moment:%Y-%m-%d}{t}{moment:%H:%M:%S}{fraction}{offset}",
        moments,
        st.sampled_from("Tt"),
        fractions,
        offsets,
    )


def lines():
    """A body of NDJSON: one event a line, with blank lines here and there, and with or without an end of the last."""
    event = st.fixed_dictionaries(
        {
            "site_id": st.uuids().map(str),
            "type": st.sampled_from(["serve", "solve"]),
            "correlation_id": st.uuids().map(str),
            "time": times(),
        }
    )
    line = st.builds(str.__add__, event.map(json.dumps), st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"]))
    body = st.lists(line, min_size=1, max_size=10).map("".join)
    return st.one_of(body, body.map(str.rstrip), body.map("\n{}".format))


schemathesis.openapi.format("captcha-time", times())
schemathesis.openapi.format("captcha-lines", lines())
schemathesis.openapi.format("captcha-bound", bounds())
schemathesis.openapi.format("captcha-zone", st.sampled_from(ZONES))


@schemathesis.serializer(NDJSON)
def to_bytes(_context, value):
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
