"""Answers of the broker, from the socket to where the client reads them.

asyncio's stream takes a fetch of megabytes off the socket in pieces, puts them together and cuts the answer out again,
which is a third of what reading costs. aiokafka has no way to ask for another stream, so its protocol is replaced by
this one, which does the same. tests/unit/test_frames.py holds it to asyncio's own.
"""

import asyncio
import gc
from typing import Any, Final

from aiokafka import conn

# What an answer has at least to be worth a place of its own, and at most: who is no broker may ask for any size.
_PIECE_BYTES: Final = 64 * 1024
_PLACE_BYTES_MAX: Final = 64 * 1024 * 1024
# After a connection ended: until then the client has read its error and let go of it.
_COLLECT_SECONDS: Final = 1.0


class ReadAheadProtocol(conn.AIOKafkaProtocol, asyncio.BufferedProtocol):  # type: ignore[misc]  # aiokafka has no types
    """Has the socket write where a large answer is to be, and gives that to whoever reads from the client's stream."""

    def __init__(self, closed: Any, reader: asyncio.StreamReader, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(closed, reader, loop=loop)
        # Neither refers to the other: a connection that is forgotten is to be closed at once, not by the collector.
        self._arrivals = _ReadBuffer()
        reader.readexactly = self._arrivals.read  # type: ignore[method-assign, assignment]
        reader.at_eof = self._arrivals.are_over  # type: ignore[method-assign]

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._arrivals.room()

    def buffer_updated(self, count: int) -> None:
        self._arrivals.take(count)

    def eof_received(self) -> bool | None:
        keeps_open: bool | None = super().eof_received()
        self._arrivals.end(None)
        return keeps_open

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._arrivals.end(error)
        # The error of a read is a cycle that holds the place, which is megabytes, and by itself the collector comes
        # by numbers of objects, which these are few of.
        if self._arrivals.have_place():
            asyncio.get_running_loop().call_later(_COLLECT_SECONDS, gc.collect)


class _ReadBuffer:
    """What has come and is to come.

    What is read last goes before the next is read: a large answer is a view of one place that is used again.
    """

    def __init__(self) -> None:
        self._piece = memoryview(bytearray(_PIECE_BYTES))
        self._come = bytearray()  # and not read yet
        self._place = memoryview(b"")
        self._missing = memoryview(b"")
        self._waiting: asyncio.Future[None] | None = None
        self._has_ended = False
        self._error: Exception | None = None

    async def read(self, count: int) -> bytes | memoryview:
        """Return the next bytes; raises as the stream does where the connection ends before, or count is negative."""
        if count < 0:
            raise ValueError(f"an answer of {count} bytes")
        if count - len(self._come) > _PIECE_BYTES and count <= _PLACE_BYTES_MAX:
            return await self._read_into_place(count)
        while len(self._come) < count:
            await self._wait(count)
        read = bytes(self._come[:count])
        del self._come[:count]
        return read

    async def _read_into_place(self, count: int) -> memoryview:
        if len(self._place) < count:
            self._place = memoryview(bytearray(count))
        come = len(self._come)
        self._place[:come] = self._come
        self._come.clear()
        self._missing = self._place[come:count]
        while self._missing:
            await self._wait(count)
        return self._place[:count]

    def room(self) -> memoryview:
        """Return where what comes next is to be written."""
        return self._missing or self._piece

    def take(self, count: int) -> None:
        """Take in so many bytes that were written there."""
        if self._missing:
            self._missing = self._missing[count:]
        else:
            self._come += self._piece[:count]
        if not self._missing:
            self._wake()

    def have_place(self) -> bool:
        """Say whether there was a large answer."""
        return bool(self._place)

    def are_over(self) -> bool:
        """Say whether the connection has ended and everything that came was read."""
        return self._has_ended and not self._come and self._waiting is None

    def end(self, error: Exception | None) -> None:
        """Nothing more will come, for an error or without one."""
        self._has_ended, self._error = True, self._error or error
        self._wake()

    async def _wait(self, count: int) -> None:
        if self._error is not None:
            raise self._error
        if self._has_ended:
            raise asyncio.IncompleteReadError(bytes(self._come), count)
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
