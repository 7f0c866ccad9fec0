"""Read aiokafka's connections without asyncio's stream buffer.

asyncio's stream reads a fetch of megabytes from the socket in pieces, joins them and cuts the response out again, which
is a third of the cost of reading. aiokafka cannot be given another stream, so install() replaces its protocol by this
one. tests/unit/test_buffered_protocol.py compares the two.
"""

import asyncio
import gc
from typing import Any, Final

from aiokafka import conn

# Bytes. Responses above the first size get their own buffer, up to the second: a peer that isn't a broker can announce
# any size, and beyond the cap memory grows only with what arrives.
_CHUNK_BYTES: Final = 64 * 1024
_LARGE_BUFFER_BYTES_MAX: Final = 64 * 1024 * 1024
# Seconds from the end of a connection until the collector runs. By then the client has dropped its error.
_COLLECT_SECONDS: Final = 1.0


class ReadAheadProtocol(conn.AIOKafkaProtocol, asyncio.BufferedProtocol):  # type: ignore[misc]  # aiokafka has no types
    """Protocol whose socket writes large responses straight into the buffer that the client reads them from."""

    def __init__(self, closed: Any, reader: asyncio.StreamReader, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(closed, reader, loop=loop)
        # Protocol and buffer do not refer to each other, so that a dropped connection is freed without the collector.
        self._read_buffer = _ReadBuffer()
        reader.readexactly = self._read_buffer.read  # type: ignore[method-assign, assignment]
        reader.at_eof = self._read_buffer.is_at_end  # type: ignore[method-assign]

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._read_buffer.writable()

    def buffer_updated(self, count: int) -> None:
        self._read_buffer.add(count)

    def eof_received(self) -> bool | None:
        keeps_open: bool | None = super().eof_received()
        self._read_buffer.end(None)
        return keeps_open

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._read_buffer.end(error)
        # The error of a read is in a reference cycle with the large buffer, and the collector, which counts objects,
        # would leave these few but large ones for long.
        if self._read_buffer.has_large_buffer():
            asyncio.get_running_loop().call_later(_COLLECT_SECONDS, gc.collect)


class _ReadBuffer:
    """Bytes received and not read yet.

    A large response is a view of one buffer that the next read overwrites.
    """

    def __init__(self) -> None:
        self._chunk = memoryview(bytearray(_CHUNK_BYTES))
        self._received = bytearray()  # and not read yet
        self._large = memoryview(b"")
        self._missing = memoryview(b"")
        self._waiting: asyncio.Future[None] | None = None
        self._has_ended = False
        self._error: Exception | None = None

    async def read(self, count: int) -> bytes | memoryview:
        """Return the next bytes; raises as the stream does if the connection ends before, or count is negative."""
        if count < 0:
            raise ValueError(f"a response of {count} bytes")
        if count - len(self._received) > _CHUNK_BYTES and count <= _LARGE_BUFFER_BYTES_MAX:
            return await self._read_large(count)
        while len(self._received) < count:
            await self._wait(count)
        read = bytes(self._received[:count])
        del self._received[:count]
        return read

    async def _read_large(self, count: int) -> memoryview:
        if len(self._large) < count:
            self._large = memoryview(bytearray(count))
        received = len(self._received)
        self._large[:received] = self._received
        self._received.clear()
        self._missing = self._large[received:count]
        while self._missing:
            await self._wait(count)
        return self._large[:count]

    def writable(self) -> memoryview:
        """Return the memory that the socket writes to next."""
        return self._missing or self._chunk

    def add(self, count: int) -> None:
        """Accept `count` bytes that the socket wrote to writable()."""
        if self._missing:
            self._missing = self._missing[count:]
        else:
            self._received += self._chunk[:count]
        if not self._missing:
            self._wake()

    def has_large_buffer(self) -> bool:
        """Say whether a large response was ever read."""
        return bool(self._large)

    def is_at_end(self) -> bool:
        """Say whether the connection has ended and every received byte was read."""
        return self._has_ended and not self._received and self._waiting is None

    def end(self, error: Exception | None) -> None:
        """Let reads that need more bytes fail, with the error if there is one."""
        self._has_ended, self._error = True, self._error or error
        self._wake()

    async def _wait(self, count: int) -> None:
        if self._error is not None:
            raise self._error
        if self._has_ended:
            raise asyncio.IncompleteReadError(bytes(self._received), count)
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
