"""A TCP proxy that can be told to cut, half-close, delay and hold the connections through it.

It loses no bytes within a connection that goes on, as a network does not: what is held is delivered later, even when
its sender is gone by then (an insert that arrives 20 seconds late), or the connection is reset."""

import asyncio
import socket
import struct

from dev.testkit.http import HOST
from dev.testkit.proxy import LoopThread

CHUNK_BYTES = 64 * 1024
CHUNKS_UNDER_WAY = 64
WAYS = ("up", "down")  # to the server, and back
END, BROKEN = object(), object()  # what follows the last bytes of one way


class Connection:
    """One connection through a link: two ways that end independently of each other."""

    def __init__(self, link, client):
        self.link = link
        self.client = client  # the ends are pairs of reader and writer
        self.server = None
        self.left = dict.fromkeys(WAYS)  # bytes that may still pass before the connection is cut
        self.closed = dict.fromkeys(WAYS, False)  # half-closed by us: nothing passes any more

    async def run(self):
        try:
            await self.link.may_pass["up"].wait()
            self.server = await asyncio.open_connection(HOST, self.link.server_port)
            await asyncio.gather(
                self.carry("up", self.client[0], self.server[1]), self.carry("down", self.server[0], self.client[1])
            )
        except OSError:
            pass
        finally:
            self.reset()

    async def carry(self, way, reader, writer):
        under_way = asyncio.Queue(CHUNKS_UNDER_WAY)
        taking = asyncio.create_task(take(reader, under_way))
        try:
            while await self.deliver(way, *await under_way.get(), writer):
                pass
        except OSError:
            pass  # this end is gone; the other way hears of it from its own reader
        finally:
            taking.cancel()

    async def deliver(self, way, arrived, data, writer):
        """Passes one chunk on, when its time has come; whether there can be more."""
        clock = asyncio.get_running_loop().time
        while (early := arrived + self.link.delay_seconds - clock()) > 0:
            await asyncio.sleep(min(early, 0.05))  # in small steps, because the delay may end
        await self.link.may_pass[way].wait()
        if self.closed[way]:
            return False
        if data is BROKEN:
            reset(writer)
            return False
        if data is END:
            writer.write_eof()
            return False
        left = self.left[way]
        if left is not None:
            data = data[:left]
            self.left[way] = left - len(data)
        writer.write(data)
        await writer.drain()
        if self.left[way] == 0:
            self.reset()
        return True

    def half_close(self, way):
        end = self.server if way == "up" else self.client
        if end and not self.closed[way]:
            self.closed[way] = True
            try:
                end[1].write_eof()
            except (OSError, RuntimeError):
                pass

    def reset(self):
        for end in (self.client, self.server):
            if end:
                reset(end[1])


async def take(reader, under_way):
    """Reads one way. What the queue and the socket's buffer hold is what the network has under way."""
    clock = asyncio.get_running_loop().time
    try:
        while data := await reader.read(CHUNK_BYTES):
            await under_way.put((clock(), data))
        last = END
    except OSError:
        last = BROKEN
    await under_way.put((clock(), last))


def reset(writer):
    """Closes with a reset, as a killed or forgetful peer does, in place of a polite end."""
    end = writer.get_extra_info("socket")
    if end is not None and not writer.transport.is_closing():
        try:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
    writer.transport.abort()


class Link:
    """A port of ours in front of a server's port. Only the loop's thread may call it."""

    def __init__(self, port, server_port):
        self.port = port
        self.server_port = server_port
        self.delay_seconds = 0.0
        self.may_pass = {way: asyncio.Event() for way in WAYS}
        self.connections = set()
        self.heal()

    async def listen(self):
        await asyncio.start_server(self.accept, HOST, self.port, backlog=1024)

    async def accept(self, reader, writer):
        connection = Connection(self, (reader, writer))
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    def heal(self):
        self.delay_seconds = 0.0
        for event in self.may_pass.values():
            event.set()

    def begin(self, kind, detail):
        """Does the fault; returns the connections that are to be reset when it ends."""
        hit = list(self.connections)
        if kind == "cut":
            for connection in hit:
                connection.left = dict.fromkeys(WAYS, detail)
                if detail == 0:
                    connection.reset()
        elif kind == "half-close":
            for connection in hit:
                connection.half_close(detail)
        elif kind == "delay":
            self.delay_seconds = detail / 1000
            return []
        else:
            for way in WAYS if kind == "black-hole" else ("down",):
                self.may_pass[way].clear()
        return hit

    def end(self, kind, detail, hit):
        if detail == "reset":
            hit = list(self.connections)  # the new ones too
        if detail != "late":
            for connection in hit:
                connection.reset()
        self.heal()


class Links(LoopThread):
    """The links of all servers."""

    def __init__(self):
        super().__init__()
        self.loop.set_exception_handler(lambda _loop, _context: None)  # broken connections are what this is for

    def open(self, port, server_port):
        link = self.call(Link, port, server_port)
        self.run(link.listen())
        return link
