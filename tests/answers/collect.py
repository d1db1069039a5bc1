"""Writes the streams of this folder: all that a ClickHouse server sends on a connection of captcha, from its greeting
on.

usage: cargo build && python3 dev/stack.py with -- python3 -m tests.answers.collect FOLDER

It runs migrate, consume and reports through a proxy that keeps what passes, a file for each connection. The files here
are some of them, named after what they answer."""

import argparse
import asyncio
import itertools
import signal
import subprocess
import time
from pathlib import Path

from dev.command import captcha_environment, run
from dev.testkit import captcha, events, kafka, servers
from dev.testkit.http import HOST
from dev.testkit.proxy import LoopThread, forward

NAME = "answers"  # of the topic and of the database
CONSUME_SECONDS = 5
NO_EVENTS = ("garbage", '{"a":1}', "")


def arguments():
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.answers.collect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    captcha.add_program(parser)
    parser.add_argument("folder", type=Path, help="where the streams are written")
    return parser.parse_args()


def recording_proxy(target, folder):
    """The port of a proxy that writes what each connection receives from the target into a file."""
    numbers = itertools.count(1)

    async def accept(reader, writer):
        with (folder / f"{next(numbers):03}.stream").open("wb", buffering=0) as file:
            await forward(reader, writer, target, file.write)

    loop = LoopThread()
    return loop.run(asyncio.start_server(accept, HOST, 0)).sockets[0].getsockname()[1]


def records():
    """Events, each twice, and what is no event."""
    for number in range(40):
        yield events.to_json(events.event(events.SITES[0], correlation_id=f"00000000-0000-4000-8000-{number // 2:012}"))
    yield from NO_EVENTS


def main():
    options = arguments()
    given = servers.given("dev/stack.py with")
    options.folder.mkdir(parents=True, exist_ok=True)
    host, _, port = given.clickhouse.rpartition(":")
    proxy = recording_proxy((host, int(port)), options.folder)
    settings = given.settings(NAME) | {"clickhouse_addr": f"{HOST}:{proxy}"}

    def consume():
        words = [options.program, "consume", "--admin-listen", f"{HOST}:0"]
        child = subprocess.Popen(words, env=captcha_environment(**settings))
        time.sleep(CONSUME_SECONDS)
        child.send_signal(signal.SIGTERM)
        child.wait()

    captcha.command(options.program, "migrate", **settings)
    kafka.produce_lines(given.kafka_jars, given.kafka, NAME, records())
    consume()
    consume()  # this one has identities to read
    for words in (["report"], ["report", "audit"], ["report", "dead-letters"]):
        captcha.command(options.program, *words, **settings)
    return 0


if __name__ == "__main__":
    run(main)
