"""Asks whether a server on 127.0.0.1 really answers: `ready.py kafka|clickhouse PORT` waits until it does."""

import argparse
import time

from dev.command import Failure, run
from dev.testkit import http
from dev.testkit import kafka as wire


def kafka(port):
    """None when the broker has joined its cluster and answers, else the reason."""
    try:
        brokers = wire.brokers(port)
    except OSError as error:
        return error.strerror or str(error)
    return None if brokers > 0 else "the broker has not joined its cluster yet"


def clickhouse(http_port):
    """None when the server answers a query, else the reason."""
    answer = http.get(http_port, "/?query=SELECT+1")
    return None if (answer.status, answer.text.strip()) == (200, "1") else answer.text


def main():
    parser = argparse.ArgumentParser(prog="ready.py", description=__doc__)
    parser.add_argument("kind", choices=("kafka", "clickhouse"))
    parser.add_argument("port", type=int, help="Kafka's client port, or ClickHouse's HTTP port")
    parser.add_argument("--seconds", type=float, default=60, help="how long to wait")
    options = parser.parse_args()
    ask = {"kafka": kafka, "clickhouse": clickhouse}[options.kind]
    end = time.monotonic() + options.seconds
    while True:
        reason = ask(options.port)
        if reason is None:
            return 0
        if time.monotonic() >= end:
            where = f"{options.kind} on 127.0.0.1:{options.port}"
            raise Failure(f"{where} was not ready in {options.seconds:.0f} s: {reason}; see its server.log")
        time.sleep(0.05)


if __name__ == "__main__":
    run(main)
