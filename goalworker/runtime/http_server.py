"""HTTP server in the running event loop, for the API and the operations port."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import uvicorn
from starlette.types import ASGIApp

from goalworker import errors


class Address(NamedTuple):
    """Address to listen on, where port 0 is any free one; name and settings_group are for the error message."""

    host: str
    port: int
    name: str
    settings_group: str


@contextlib.asynccontextmanager
async def serve(application: ASGIApp, address: Address, *, drain_seconds: int) -> AsyncIterator[int]:
    """Serve while the block runs, then let requests in flight finish; yield the port.

    Raises DependencyError where the address cannot be bound.
    """
    with _listen(address) as listener:
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
        serving = asyncio.create_task(server.serve(sockets=[listener]), name=address.name)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


def _listen(address: Address) -> socket.socket:
    host, port, name, group = address
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise errors.DependencyError(
            f"{name} cannot listen on {host}:{port}: {error.strerror}; stop the process that listens there, or set"
            f" GOALWORKER_{group}__HOST and GOALWORKER_{group}__PORT to a free address (port 0 takes any free port)"
        ) from error
    # Connections inherit this option. Without it, the second write of a response waits 40 ms for the client to
    # acknowledge the first. asyncio sets it only on sockets whose proto is not 0.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the service, which decides in which order its parts stop."""
        yield
