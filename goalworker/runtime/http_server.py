"""HTTP in the running loop: what the operations port and the API have in common."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import uvicorn
from starlette.types import ASGIApp

from goalworker import errors


class Address(NamedTuple):
    """Where to listen, port 0 being any free one; what listens there and which settings say so are for the error."""

    host: str
    port: int
    what: str
    group: str


@contextlib.asynccontextmanager
async def serve(application: ASGIApp, address: Address, *, drain_seconds: int) -> AsyncIterator[int]:
    """Serve for as long as the block runs, then let requests under way end; yield the port.

    Raises DependencyError where the address is not to be had.
    """
    with _listening(address) as listener:
        server = _Server(
            uvicorn.Config(
                application,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=drain_seconds,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]), name=address.what)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


def _listening(address: Address) -> socket.socket:
    host, port, what, group = address
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise errors.DependencyError(
            f"{what} cannot listen on {host}:{port}: {error.strerror}; end what listens there, or set"
            f" GOALWORKER_{group}__HOST and GOALWORKER_{group}__PORT to an address that is free (port 0 takes any)"
        ) from error
    # Connections inherit it. Without it an answer's second write waits 40 ms for the client to acknowledge the first,
    # and asyncio leaves it out for sockets that are made like this one (their proto is 0).
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: who started us decides in which order things stop."""
        yield
