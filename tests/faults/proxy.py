"""TCP proxy on loopback that can lose, delay and cut what a client and a server send each other."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from goalworker.embedded import machine

PIECE_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class Lost:
    """Replies to lose: those to `request`, on a connection that has sent `after` since the last such request."""

    request: bytes
    after: bytes
    times: int


@dataclass(eq=False, slots=True)
class _Line:
    """Connection of a client, and the proxy's own connection to the server for it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    said_after: bool = False
    holds_back: bool = False

    def writers(self) -> list[asyncio.StreamWriter]:
        return [writer for writer in (self.client, self.server) if writer is not None]


@dataclass(eq=False, slots=True)
class Proxy:
    """Proxy that listens on `port` and passes everything on; any thread may set faults at any time."""

    server_port: int
    port: int = field(default_factory=machine.free_port)
    delay_seconds: float = 0.0
    replies_lost: int = 0
    _lost: Lost | None = None
    _lines: set[_Line] = field(default_factory=set)
    _passes: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    # --- faults ---

    def black_hole(self) -> None:
        """Accept and keep connections, but pass nothing until heal()."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def heal(self) -> None:
        """Pass everything again, beginning with the bytes that were held back."""
        self.delay_seconds, self._lost = 0.0, None
        self._loop.call_soon_threadsafe(self._passes.set)

    def cut(self) -> None:
        """Close every connection."""
        self._do(self._end_all(reset=False))

    def reset(self) -> None:
        """Reset every connection with RST."""
        self._do(self._end_all(reset=True))

    def lose_reply(self, request: bytes, *, after: bytes = b"", times: int = 1) -> None:
        """Pass requests, wait for the reply to one of them, drop it and cut the connection; this many times."""
        self.replies_lost = 0
        self._lost = Lost(request, after, times)

    # --- the wire ---

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _serve(self) -> asyncio.Server:
        self._passes.set()
        return await asyncio.start_server(self._accept, machine.LOOPBACK, self.port)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, _Line(writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, line: _Line) -> None:
        self._lines.add(line)
        try:
            await self._passes.wait()
            answers, line.server = await asyncio.open_connection(machine.LOOPBACK, self.server_port)
            ways = [
                asyncio.create_task(self._pass_requests(reader, line)),
                asyncio.create_task(self._pass_replies(answers, line)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # the server is away, so the client's connection is closed
        finally:
            await self._end(line, reset=False)

    async def _pass_requests(self, requests: asyncio.StreamReader, line: _Line) -> None:
        assert line.server is not None
        while piece := await requests.read(PIECE_BYTES):
            await self._wait()
            line.holds_back = line.holds_back or self._is_to_be_lost(piece, line)
            line.server.write(piece)
            await line.server.drain()

    async def _pass_replies(self, replies: asyncio.StreamReader, line: _Line) -> None:
        while piece := await replies.read(PIECE_BYTES):
            await self._wait()
            if line.holds_back:
                self.replies_lost += 1
                return
            line.client.write(piece)
            await line.client.drain()

    async def _wait(self) -> None:
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        await self._passes.wait()

    def _is_to_be_lost(self, piece: bytes, line: _Line) -> bool:
        lost = self._lost
        if lost is None:
            return False
        line.said_after = line.said_after or lost.after in piece
        if lost.request not in piece:
            return False
        if lost.times == 0 or not line.said_after:
            line.said_after = False
            return False
        lost.times -= 1
        return True

    async def _end_all(self, *, reset: bool) -> None:
        for line in list(self._lines):
            await self._end(line, reset=reset)

    async def _end(self, line: _Line, *, reset: bool) -> None:
        self._lines.discard(line)
        for writer in line.writers():
            connected = writer.get_extra_info("socket")
            if reset:
                with contextlib.suppress(OSError):
                    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            writer.close()

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # lets transports finish closing


@contextlib.contextmanager
def running(server_port: int, port: int | None = None) -> Iterator[Proxy]:
    """Run a proxy in a thread of its own, where no test's event loop can block it."""
    wire = Proxy(server_port) if port is None else Proxy(server_port, port)
    thread = threading.Thread(target=wire._loop.run_forever, name="proxy")
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(wire._serve(), wire._loop).result()
        try:
            yield wire
        finally:
            wire._do(wire._stop(server))
    finally:
        wire._loop.call_soon_threadsafe(wire._loop.stop)
        thread.join()
        wire._loop.close()
