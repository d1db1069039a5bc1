"""Writes the streams of this folder: all that a ClickHouse server sends on a connection of captcha, from its greeting on.

usage: cargo build && python3 dev/stack.py with -- python3 -m tests.answers.collect FOLDER

It runs migrate, consume and reports through a proxy that keeps what passes, a file for each connection. The folder has some of them, named
after what they answer."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).parent.parent.parent
PROGRAM = ROOT / "target/debug/captcha"
KAFKA = os.environ["CAPTCHA_TEST_KAFKA"]
CLICKHOUSE = os.environ["CAPTCHA_TEST_CLICKHOUSE"]
JARS = os.environ["CAPTCHA_TEST_KAFKA_JARS"]
SITE = "7a6f0a3e-9d3c-4b0e-8a55-0a4f5b1c2d3e"


def pump(source, sink, file):
    try:
        while data := source.recv(65536):
            if file:
                file.write(data)
                file.flush()
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def proxy(listener, folder):
    host, port = CLICKHOUSE.rsplit(":", 1)
    number = 0
    while True:
        client, _ = listener.accept()
        server = socket.create_connection((host, int(port)))
        number += 1
        file = open(folder / f"{number:03}.stream", "wb")
        for source, sink, kept in ((client, server, None), (server, client, file)):
            threading.Thread(target=pump, args=(source, sink, kept), daemon=True).start()


def records():
    """Events, a repeat, and what is no event."""
    for number in range(40):
        event = (
            f'{{"site_id":"{SITE}","type":"serve","correlation_id":"00000000-0000-4000-8000-{number // 2:012}",'
            f'"time":"2001-01-01T05:55:07"}}'
        )
        yield event
    yield from ("garbage", '{"a":1}', "")


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=proxy, args=(listener, folder), daemon=True).start()
    known = {name: value for name, value in os.environ.items() if not name.startswith("CAPTCHA_")}
    settings = {
        "CAPTCHA_CLICKHOUSE_ADDR": f"127.0.0.1:{listener.getsockname()[1]}",
        "CAPTCHA_CLICKHOUSE_DATABASE": "answers",
        "CAPTCHA_KAFKA_BROKERS": KAFKA,
        "CAPTCHA_KAFKA_TOPIC": "answers",
    }
    env = {**known, **settings}

    def run(*arguments):
        subprocess.run([PROGRAM, *arguments], env=env, check=True)

    def consume(seconds):
        consumer = subprocess.Popen([PROGRAM, "consume", "--admin-listen", "127.0.0.1:0"], env=env)
        time.sleep(seconds)
        consumer.send_signal(signal.SIGTERM)
        consumer.wait()

    run("migrate")
    subprocess.run(
        ["java", "-cp", f"{JARS}/*", "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", KAFKA, "--topic", "answers"],
        input="\n".join(records()) + "\n",
        text=True,
        check=True,
    )
    # The second one has identities to read.
    consume(5)
    consume(5)
    run("report")
    run("report", "audit")
    run("report", "dead-letters")


main()
