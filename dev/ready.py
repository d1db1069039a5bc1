"""Asks whether a server on 127.0.0.1 really answers: `ready.py kafka|clickhouse PORT` waits until it does."""

import argparse
import http.client
import socket
import struct
import time

from dev.command import Failure, run

METADATA, VERSION = 3, 1


def kafka(port):
    """None when the broker has joined its cluster and answers, else the reason."""
    body = struct.pack(">hhihi", METADATA, VERSION, 1, -1, 0)  # no client id, no topics
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.settimeout(2)
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as answer:
                _size, _correlation, brokers = struct.unpack(">iii", answer.read(12))
    except OSError as error:
        return error.strerror or str(error)
    except struct.error:
        return "it closed the connection"
    return None if brokers > 0 else "the broker has not joined its cluster yet"


def clickhouse(http_port):
    """None when the server answers a query, else the reason."""
    status, text = get(http_port, "/?query=SELECT+1")
    return None if (status, text.strip()) == (200, "1") else text


def get(port, path, seconds=2):
    """Status and text of an HTTP answer; status 0 and the reason if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 16).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, getattr(error, "strerror", None) or str(error) or type(error).__name__
    finally:
        connection.close()


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
