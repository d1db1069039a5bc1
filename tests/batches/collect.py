"""Writes the record batches of this folder: what real clients write, as a broker hands it out.

usage: python3 dev/stack.py with -- python3 -m tests.batches.collect

The tests read the files and need none of this. It wants confluent_kafka from PyPI in this Python, and `go` and `npm` on the
path; what those fetch goes into a temporary folder."""

import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

HERE = pathlib.Path(__file__).parent
KAFKA = os.environ["CAPTCHA_TEST_KAFKA"]
JARS = os.environ["CAPTCHA_TEST_KAFKA_JARS"]
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

# Each client writes these: key, value, headers. kafkajs has no header without a value.
HEADERS = [("x", None), ("x", b""), ("x", b"1"), ("", b"name"), ("\u00e9", b"\xff\xfe")]
RECORDS = [
    (b"key", b"plain", []),
    (None, b"no key", [("a", b"1")]),
    (b"key", None, []),
    (b"", b"", HEADERS),
    (b"key", b"v" * 2000, [(f"name {number}", b"value") for number in range(20)]),
]


def librdkafka(topic, codec):
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": KAFKA, "compression.type": codec, "linger.ms": 500, "enable.idempotence": codec == "lz4"}
    )
    for key, value, headers in RECORDS:
        producer.produce(topic, key=key, value=value, headers=headers)
    producer.flush()


def java(topic, codec, *more):
    program = HERE / "clients" / "Produce.java"
    subprocess.run(["java", "-cp", f"{JARS}/*", program, KAFKA, topic, codec, *more], check=True)


def go(folder):
    shutil.copy(HERE / "clients" / "produce.go", folder)
    for words in (["mod", "init", "collect"], ["get", "github.com/twmb/franz-go/pkg/kgo@v1.22.3"]):
        subprocess.run(["go", *words], cwd=folder, check=True)
    return lambda topic, codec: subprocess.run(["go", "run", ".", KAFKA, topic, codec], cwd=folder, check=True)


def node(folder):
    shutil.copy(HERE / "clients" / "produce.js", folder)
    subprocess.run(["npm", "install", "--silent", "kafkajs@2.2.4"], cwd=folder, check=True)
    return lambda topic, codec: subprocess.run(["node", "produce.js", KAFKA, topic, codec], cwd=folder, check=True)


def fetched(topic):
    """The batches of partition 0 from its first offset on, by Fetch version 4."""
    name = struct.pack(">h", len(topic)) + topic.encode()
    body = struct.pack(">hhi", 1, 4, 1) + struct.pack(">h", -1)
    body += struct.pack(">iiiib", -1, 500, 1, 1 << 24, 0) + struct.pack(">i", 1) + name
    body += struct.pack(">iiqi", 1, 0, 0, 1 << 24)
    host, port = KAFKA.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection, connection.makefile("rb") as answers:
        connection.sendall(struct.pack(">i", len(body)) + body)
        answer = answers.read(struct.unpack(">i", answers.read(4))[0])
    at = 4 + 4 + 4 + len(name) + 4 + 4 + 2 + 8 + 8
    aborted = struct.unpack_from(">i", answer, at)[0]
    at += 4 + max(aborted, 0) * 16
    length = struct.unpack_from(">i", answer, at)[0]
    return answer[at + 4 : at + 4 + length]


def main():
    admin = AdminClient({"bootstrap.servers": KAFKA})

    def collect(name, produce, config=None):
        admin.create_topics([NewTopic(name, 1, 1, config=config or {})])[name].result()
        produce(name)
        batches = fetched(name)
        assert batches, name
        (HERE / f"{name}.batches").write_bytes(batches)
        print(name, len(batches))

    with tempfile.TemporaryDirectory() as go_folder, tempfile.TemporaryDirectory() as node_folder:
        clients = {"java": java, "librdkafka": librdkafka, "franz-go": go(go_folder), "kafkajs": node(node_folder)}
        for client, produce in clients.items():
            # The others are plugins of kafkajs.
            for codec in CODECS if client != "kafkajs" else CODECS[:2]:
                collect(f"{client}-{codec}", lambda topic: produce(topic, codec))
    collect("java-transactions", lambda topic: java(topic, "none", "transactions"))
    collect("broker-zstd", lambda topic: java(topic, "none"), {"compression.type": "zstd"})
    collect("broker-time", lambda topic: java(topic, "none"), {"message.timestamp.type": "LogAppendTime"})


main()
