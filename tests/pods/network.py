"""The network of the cluster: a bridge that pods hang on, the addresses of services, DNS, and ports that hand on.

All of it is in a network namespace of its own, so the ports of the manifests are free and nobody outside is met."""

import asyncio
import random
import socket
import ssl
import struct
import subprocess

from dev.command import Failure
from dev.testkit import proxy

DEVICE = "pods"
POD_DEVICE = "eth0"  # its name in a pod
BRIDGE_ADDRESS = "02:00:00:00:00:01"
PREFIX = 16
GATEWAY = "10.97.0.1"  # where the node is: the kubelet and the clients come from here
DNS_SERVER = "10.97.0.53"
DNS_PORT = 53
A = 1
NO_SUCH_NAME = 3


def ip(*words):
    command, options = ["ip", *map(str, words)], {"stdin": subprocess.DEVNULL, "capture_output": True}
    done = subprocess.run(command, check=False, text=True, **options)
    if done.returncode != 0:
        raise Failure(f"ip {' '.join(map(str, words))} failed: {done.stderr.strip()}")


class Network(proxy.LoopThread):
    def __init__(self, namespace):
        super().__init__()
        self.namespace = namespace
        self.addresses = {}  # full name: address
        self.services = 0
        self.pods = 0
        self.kept = []
        ip("link", "set", "lo", "up")
        # With an address of its own: else it has that of one of its pods, and a new one when that pod goes.
        ip("link", "add", DEVICE, "address", BRIDGE_ADDRESS, "type", "bridge")
        for address in (GATEWAY, DNS_SERVER):
            ip("address", "add", f"{address}/{PREFIX}", "dev", DEVICE)
        ip("link", "set", DEVICE, "up")
        self.keep(self.loop.create_datagram_endpoint(lambda: Names(self.addresses), local_addr=(DNS_SERVER, DNS_PORT)))

    def keep(self, coroutine):
        """Starts a server in the loop's thread; one that nobody holds would be closed."""
        self.kept.append(self.run(coroutine))

    def resolver(self):
        """What Kubernetes writes into each pod's /etc/resolv.conf."""
        zones = (f"{self.namespace}.svc.cluster.local", "svc.cluster.local", "cluster.local")
        return f"search {' '.join(zones)}\nnameserver {DNS_SERVER}\noptions ndots:5\n"

    def service(self, host):
        """A new address for a name such as a.namespace.svc, where a server may listen."""
        self.services += 1
        address = f"10.97.1.{self.services}"
        ip("address", "add", f"{address}/{PREFIX}", "dev", DEVICE)
        self.addresses[f"{host}.cluster.local"] = address
        return address

    def pod_address(self):
        self.pods += 1
        return f"10.97.{2 + self.pods // 200}.{1 + self.pods % 200}"

    def join(self, pid, number):
        """Gives the network namespace of a process a device on the bridge."""
        outside = f"pod{number}"
        ip("link", "add", outside, "type", "veth", "peer", "name", POD_DEVICE, "netns", pid)
        ip("link", "set", outside, "master", DEVICE, "up")

    def forward(self, address, port, targets, certificate=None):
        """Hands connections on to one of the targets, [(address, port)]; takes TLS off when there is a certificate."""
        context = None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))

        async def take(reader, writer):
            await proxy.forward(reader, writer, random.choice(targets))

        self.keep(asyncio.start_server(take, address, port, ssl=context))


class Names(asyncio.DatagramProtocol):
    """DNS as far as it is asked: IPv4 addresses of the names that there are, and that there are no others."""

    def __init__(self, addresses):
        self.addresses = addresses

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        labels, place = [], 12
        while size := data[place]:
            labels.append(data[place + 1 : place + 1 + size].decode())
            place += 1 + size
        (kind,) = struct.unpack_from(">H", data, place + 1)
        address = self.addresses.get(".".join(labels).lower())
        answers = b""
        if address and kind == A:
            answers = b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 30, 4) + socket.inet_aton(address)
        flags = 0x8580 | (0 if address else NO_SUCH_NAME)
        head = data[:2] + struct.pack(">HHHHH", flags, 1, 1 if answers else 0, 0, 0)
        self.transport.sendto(head + data[12 : place + 5] + answers, peer)
