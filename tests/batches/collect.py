"""Writes the record batches of this folder: what real clients write, as a broker hands it out.

usage: python3 dev/stack.py with -- python3 -m tests.batches.collect

The tests read the files and need none of this. It wants confluent_kafka from PyPI in this Python, and `go` and `npm` on
the path; what those fetch goes into a temporary folder."""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from dev.command import Failure, run
from dev.testkit import kafka, packages, servers

HERE = Path(__file__).parent
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


def librdkafka(confluent_kafka, brokers):
    def produce(topic, codec):
        options = {"compression.type": codec, "linger.ms": 500, "enable.idempotence": codec == "lz4"}
        producer = confluent_kafka.Producer({"bootstrap.servers": brokers, **options})
        for key, value, headers in RECORDS:
            producer.produce(topic, key=key, value=value, headers=headers)
        producer.flush()

    return produce


def java(jars, brokers):
    program = HERE / "clients" / "Produce.java"
    command = ["java", "-cp", f"{jars}/*", program, brokers]
    return lambda topic, codec, *more: subprocess.run([*command, topic, codec, *more], check=True)


def go(brokers, folder):
    shutil.copy(HERE / "clients" / "produce.go", folder)
    for words in (["mod", "init", "collect"], ["get", "github.com/twmb/franz-go/pkg/kgo@v1.22.3"]):
        subprocess.run(["go", *words], cwd=folder, check=True)
    return lambda topic, codec: subprocess.run(["go", "run", ".", brokers, topic, codec], cwd=folder, check=True)


def node(brokers, folder):
    shutil.copy(HERE / "clients" / "produce.js", folder)
    subprocess.run(["npm", "install", "--silent", "kafkajs@2.2.4"], cwd=folder, check=True)
    return lambda topic, codec: subprocess.run(["node", "produce.js", brokers, topic, codec], cwd=folder, check=True)


class Collector:
    """Makes a topic, has a client write to it, and keeps what the broker hands out."""

    def __init__(self, admin, brokers):
        self.admin = admin
        self.client = admin.AdminClient({"bootstrap.servers": brokers})
        self.port = int(brokers.rpartition(":")[2])

    def collect(self, name, produce, *words, **config):
        topic = self.admin.NewTopic(name, 1, 1, config={key.replace("_", "."): value for key, value in config.items()})
        self.client.create_topics([topic])[name].result()
        produce(name, *words)
        batches = kafka.batches(self.port, name)
        if not batches:
            raise Failure(f"the broker hands out no batches of {name}")
        (HERE / f"{name}.batches").write_bytes(batches)
        print(name, len(batches))


def main():
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.batches.collect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    confluent_kafka = packages.load("confluent_kafka", "pip install confluent_kafka")
    given = servers.given("dev/stack.py with")
    collector = Collector(packages.load("confluent_kafka.admin", "pip install confluent_kafka"), given.kafka)
    with tempfile.TemporaryDirectory() as go_folder, tempfile.TemporaryDirectory() as node_folder:
        clients = {
            "java": java(given.kafka_jars, given.kafka),
            "librdkafka": librdkafka(confluent_kafka, given.kafka),
            "franz-go": go(given.kafka, go_folder),
            "kafkajs": node(given.kafka, node_folder),
        }
        for client, produce in clients.items():
            # The others are plugins of kafkajs.
            for codec in CODECS if client != "kafkajs" else CODECS[:2]:
                collector.collect(f"{client}-{codec}", produce, codec)
    collector.collect("java-transactions", clients["java"], "none", "transactions")
    collector.collect("broker-zstd", clients["java"], "none", compression_type="zstd")
    collector.collect("broker-time", clients["java"], "none", message_timestamp_type="LogAppendTime")
    return 0


if __name__ == "__main__":
    run(main)
