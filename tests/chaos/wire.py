"""What the run asks Kafka itself, past the links: who leads, which replicas are in sync, and where each log ends."""

import socket
import struct

METADATA, LIST_OFFSETS = 3, 2
LATEST = -1
SECONDS = 2


class Answer:
    """The bytes of an answer, taken from the front."""

    def __init__(self, data):
        self.data = data
        self.place = 0

    def take(self, form):
        values = struct.unpack_from(">" + form, self.data, self.place)
        self.place += struct.calcsize(">" + form)
        return values[0] if len(values) == 1 else values

    def text(self):
        size = self.take("h")
        self.place += max(size, 0)
        return self.data[self.place - size : self.place].decode() if size >= 0 else None

    def list(self, one):
        return [one() for _ in range(self.take("i"))]


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def ask(port, kind, version, body):
    """The answer to one request; OSError when there is none."""
    request = struct.pack(">hhih", kind, version, 1, -1) + body
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        connection.settimeout(SECONDS)
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as stream:
            size = stream.read(4)
            if len(size) < 4:
                raise ConnectionError("it closed the connection")
            data = stream.read(struct.unpack(">i", size)[0])
    return Answer(data[4:])


def topic(ports, name):
    """{partition: (leader, replicas in sync)} as the first broker that answers has it; ports: {node: port}."""
    reason = "no broker"
    for port in ports.values():
        try:
            answer = ask(port, METADATA, 1, struct.pack(">i", 1) + text(name))
        except (OSError, struct.error) as error:
            reason = str(error)
            continue
        answer.list(lambda: (answer.take("i"), answer.text(), answer.take("i"), answer.text()))
        answer.take("i")
        found = {}

        def partition():
            _error, number, leader = answer.take("hii")
            answer.list(lambda: answer.take("i"))
            found[number] = (leader, answer.list(lambda: answer.take("i")))

        answer.list(lambda: (answer.take("h"), answer.text(), answer.take("b"), answer.list(partition)))
        return found
    raise ConnectionError(f"no broker tells of topic {name}: {reason}")


def ends(ports, name):
    """{partition: the offset that the next record will have}; OSError when a partition has no leader that answers."""
    found = {}
    for number, (leader, _) in topic(ports, name).items():
        if leader not in ports:
            raise ConnectionError(f"partition {number} has no leader")
        body = struct.pack(">ii", -1, 1) + text(name) + struct.pack(">iiq", 1, number, LATEST)
        answer = ask(ports[leader], LIST_OFFSETS, 1, body)
        answer.take("i"), answer.text(), answer.take("i")
        _number, error, _timestamp, offset = answer.take("ihqq")
        if error:
            raise ConnectionError(f"kafka error {error} for the end of partition {number}")
        found[number] = offset
    return found
