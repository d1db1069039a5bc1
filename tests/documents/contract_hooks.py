"""What JSON Schema cannot say of requests, told to schemathesis: which times and days there are, and what lines
hold."""

import datetime
import json

import schemathesis
from hypothesis import strategies as st

NDJSON = "application/x-ndjson"


@schemathesis.hook
def before_load_schema(_context, raw_schema):
    """Gives the texts that have a meaning formats of their own, which are generated below."""
    raw_schema["components"]["schemas"]["Event"]["properties"]["time"]["format"] = "captcha-time"
    raw_schema["paths"]["/v1/events"]["post"]["requestBody"]["content"][NDJSON]["schema"]["format"] = "captcha-lines"


@schemathesis.hook
def map_query(_context, query):
    """Puts the days of a report in order, where both are days."""
    first, after = day(query, "from"), day(query, "to")
    if first is None or after is None or first < after:
        return query
    if first == after:
        return {name: value for name, value in query.items() if name != "to"}
    return query | {"from": query["to"], "to": query["from"]}


def day(query, name):
    try:
        return datetime.date.fromisoformat(query[name])
    except (KeyError, TypeError, ValueError):
        return None


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


@schemathesis.serializer(NDJSON)
def to_bytes(_context, value):
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
