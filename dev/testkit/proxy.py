"""What proxies are made of: an event loop in a thread of its own, and bytes that go from one connection to another."""

import asyncio
import ssl
import threading

BLOCK_BYTES = 1 << 16
CALL_SECONDS = 10


class LoopThread:
    """An asyncio event loop in a daemon thread."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, coroutine):
        """The result of a coroutine that runs in the loop's thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(CALL_SECONDS)

    def call(self, function, *values):
        """What a function returns that runs in the loop's thread."""

        async def inside():
            return function(*values)

        return self.run(inside())


async def forward(reader, writer, target, received=None):
    """Connects a client to a target, (address, port); `received` is called with each block that the target sends."""
    try:
        to_reader, to_writer = await asyncio.open_connection(*target)
    except OSError:
        writer.close()
        return
    await asyncio.gather(pour(reader, to_writer), pour(to_reader, writer, received))


async def pour(reader, writer, received=None):
    """Until either end closes; then the other end is closed too."""
    try:
        while block := await reader.read(BLOCK_BYTES):
            if received:
                received(block)
            writer.write(block)
            await writer.drain()
    except (OSError, ssl.SSLError):
        pass
    finally:
        writer.close()
