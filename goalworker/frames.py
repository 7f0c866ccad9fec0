"""Answers of the broker, from the socket to where the client reads them.

asyncio's stream takes a fetch of megabytes off the socket in pieces, puts them together and cuts the answer out again,
which is a third of what reading costs. aiokafka has no way to ask for another stream, so its protocol is replaced by
this one, which does the same. tests/unit/test_frames.py holds it to asyncio's own.
"""

import asyncio
from typing import Any, Final

from aiokafka import conn

# What an answer has at least to be worth a place of its own, and at most: who is no broker may ask for any size.
_PIECE_BYTES: Final = 64 * 1024
_PLACE_BYTES_MAX: Final = 64 * 1024 * 1024


class Protocol(conn.AIOKafkaProtocol, asyncio.BufferedProtocol):  # type: ignore[misc]  # aiokafka has no types
    """Has the socket write where a large answer is to be, and gives that to whoever reads from the client's stream.

    What is read last goes before the next is read: a large answer is a view of one place that is used again.
    """

    def __init__(self, closed: Any, reader: asyncio.StreamReader, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(closed, reader, loop=loop)
        reader.readexactly = self.readexactly  # type: ignore[method-assign, assignment]
        self._reader = reader
        self._piece = memoryview(bytearray(_PIECE_BYTES))
        self._come = bytearray()  # and not read yet
        self._place = memoryview(b"")
        self._missing = memoryview(b"")
        self._arrival: asyncio.Future[None] | None = None

    async def readexactly(self, count: int) -> bytes | memoryview:
        """Return the next bytes; raises as the stream does where the connection ends before."""
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

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._missing or self._piece

    def buffer_updated(self, count: int) -> None:
        if self._missing:
            self._missing = self._missing[count:]
        else:
            self._come += self._piece[:count]
        if not self._missing:
            self._wake()

    def eof_received(self) -> bool | None:
        keeps_open: bool | None = super().eof_received()
        self._wake()
        return keeps_open

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._wake()

    async def _wait(self, count: int) -> None:
        if (error := self._reader.exception()) is not None:
            raise error
        if self._reader.at_eof():
            raise asyncio.IncompleteReadError(bytes(self._come), count)
        self._arrival = asyncio.get_running_loop().create_future()
        try:
            await self._arrival
        finally:
            self._arrival = None

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
