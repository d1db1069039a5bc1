"""SQL over ClickHouse's HTTP interface, at a port of this machine."""

from urllib.parse import urlencode

from dev.command import Failure
from dev.testkit import http

SECONDS = 600


def ask(port, sql, data=None, *, seconds=SECONDS, **settings):
    """The response to a statement. `data` follows an INSERT; `settings` are of the server, or the `database`."""
    # Waiting for the end means that an error in the middle is an error, and not a short answer.
    settings = {"wait_end_of_query": 1, **settings}
    if data is None:
        data = sql.encode()
    else:
        settings["query"] = sql
    return http.request(port, "POST", f"/?{urlencode(settings)}", data, seconds=seconds)


def query(port, sql, data=None, *, seconds=SECONDS, **settings):
    """The bytes of the answer; Failure if there is none."""
    answer = ask(port, sql, data, seconds=seconds, **settings)
    if answer.status == 0:
        raise Failure(f"cannot ask clickhouse at {http.HOST}:{port}: {answer.text}")
    if answer.status != 200:
        raise Failure(f"clickhouse answered {answer.status}: {answer.text.strip()[:500]} (to: {sql[:90]} ...)")
    return answer.body


def text(port, sql, **options):
    return query(port, sql, **options).decode().strip()


def lines(port, sql, **options):
    return query(port, sql, **options).decode().splitlines()
