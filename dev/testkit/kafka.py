"""Kafka's protocol, as far as it is needed: leaders, replicas in sync, ends of logs, batches; its console producer."""

import socket
import struct
import subprocess

from dev.command import Failure, start
from dev.testkit.http import HOST

FETCH, LIST_OFFSETS, METADATA = 1, 2, 3
LATEST = -1
SECONDS = 2
BATCH_BYTES = 1 << 24


class Reader:
    """Reads an answer from the front."""

    def __init__(self, data):
        self.data = data
        self.position = 0

    def read(self, form):
        values = struct.unpack_from(">" + form, self.data, self.position)
        self.position += struct.calcsize(">" + form)
        return values[0] if len(values) == 1 else values

    def bytes(self, size):
        self.position += size
        return self.data[self.position - size : self.position]

    def string(self):
        size = self.read("h")
        return self.bytes(size).decode() if size >= 0 else None

    def array(self, element):
        return [element() for _ in range(self.read("i"))]


def string(value):
    return struct.pack(">h", len(value)) + value.encode()


def ask(port, kind, version, body):
    """The answer to one request; OSError when there is none."""
    request = struct.pack(">hhih", kind, version, 1, -1) + body
    with socket.create_connection((HOST, port), SECONDS) as connection:
        connection.settimeout(SECONDS)
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as stream:
            size = stream.read(4)
            data = stream.read(*struct.unpack(">i", size)) if len(size) == 4 else b""
            if len(data) < 4 or len(data) < struct.unpack(">i", size)[0]:
                raise ConnectionError("it closed the connection")
    return Reader(data[4:])


def brokers(port):
    """How many brokers a broker knows, itself among them; 0 before it has joined its cluster."""
    return ask(port, METADATA, 1, struct.pack(">i", 0)).read("i")


def partitions(ports, topic):
    """{partition: (leader, replicas in sync)} as the first broker that answers has it; ports: {node: port}."""
    reason = "no broker"
    for port in ports.values():
        try:
            answer = ask(port, METADATA, 1, struct.pack(">i", 1) + string(topic))
        except OSError as error:
            reason = str(error)
            continue
        answer.array(lambda: (answer.read("i"), answer.string(), answer.read("i"), answer.string()))
        answer.read("i")
        found = {}

        def partition():
            _error, number, leader = answer.read("hii")
            answer.array(lambda: answer.read("i"))
            found[number] = (leader, answer.array(lambda: answer.read("i")))

        answer.array(lambda: (answer.read("h"), answer.string(), answer.read("b"), answer.array(partition)))
        return found
    raise ConnectionError(f"no broker tells of topic {topic}: {reason}")


def ends(ports, topic):
    """{partition: the offset that the next record will have}; OSError when a partition has no leader that answers."""
    found = {}
    for number, (leader, _) in partitions(ports, topic).items():
        if leader not in ports:
            raise ConnectionError(f"partition {number} has no leader")
        body = struct.pack(">ii", -1, 1) + string(topic) + struct.pack(">iiq", 1, number, LATEST)
        answer = ask(ports[leader], LIST_OFFSETS, 1, body)
        answer.read("i"), answer.string(), answer.read("i")
        _number, error, _timestamp, offset = answer.read("ihqq")
        if error:
            raise ConnectionError(f"kafka error {error} for the end of partition {number}")
        found[number] = offset
    return found


def batches(port, topic):
    """The bytes of the record batches of partition 0 from its first offset on, by Fetch version 4."""
    body = struct.pack(">iiiib", -1, 500, 1, BATCH_BYTES, 0) + struct.pack(">i", 1) + string(topic)
    answer = ask(port, FETCH, 4, body + struct.pack(">iiqi", 1, 0, 0, BATCH_BYTES))
    answer.read("ii"), answer.string(), answer.read("i")
    answer.read("ihqq")
    for _ in range(max(answer.read("i"), 0)):  # aborted transactions
        answer.read("qq")
    return answer.bytes(answer.read("i"))


def produce_lines(jars, brokers, topic, lines):
    """Sends each line as the value of a record, by Kafka's own console producer."""
    tool = ["java", "-cp", f"{jars}/*", "org.apache.kafka.tools.ConsoleProducer"]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    child = start([*tool, "--bootstrap-server", brokers, "--topic", topic], **options)
    trouble = child.communicate("".join(f"{line}\n" for line in lines), timeout=60)[1]
    if child.returncode != 0:
        raise Failure(f"the console producer failed: {trouble.strip()[-300:]}")
