"""A PostgreSQL and a Kafka to be treated badly, and a bad wire before each."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib import parse

from goalworker import embedded
from goalworker.embedded import machine
from tests.faults import proxy


@dataclass(frozen=True, slots=True)
class Machines:
    """The servers, what they are reached by directly, and the wires."""

    postgres: embedded.Server
    kafka: embedded.Server
    bootstrap_servers: str
    database_wire: proxy.Proxy
    broker_wire: proxy.Proxy

    def by_wire(self, database_url: str) -> dict[str, str]:
        """The settings that lead a worker over the wires to Kafka and to a database of ours."""
        parts = parse.urlsplit(database_url)
        name = parts.netloc.rpartition(":")[0]
        return {
            "DATABASE__URL": parts._replace(netloc=f"{name}:{self.database_wire.port}").geturl(),
            "KAFKA__BOOTSTRAP_SERVERS": f"{machine.LOOPBACK}:{self.broker_wire.port}",
        }


@contextlib.contextmanager
def running() -> Iterator[Machines]:
    """Start all; whoever stops a server starts it again."""
    port, behind_wire, wire_port, controller_port = (machine.free_port() for _ in range(4))
    # Kafka tells its clients where to go: those who came by the wire are to stay on it.
    listeners = {
        "listeners": _listeners(BROKER=port, WIRE=behind_wire, CONTROLLER=controller_port),
        "advertised.listeners": _listeners(BROKER=port, WIRE=wire_port),
        "listener.security.protocol.map": "BROKER:PLAINTEXT,WIRE:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@{machine.LOOPBACK}:{controller_port}",
    }
    with (
        embedded.kafka(extra_properties=listeners) as kafka,
        embedded.postgres() as postgres,
        proxy.running(postgres.port) as database_wire,
        proxy.running(behind_wire, wire_port) as broker_wire,
    ):
        yield Machines(postgres, kafka, f"{machine.LOOPBACK}:{port}", database_wire, broker_wire)


def _listeners(**ports: int) -> str:
    return ",".join(f"{name}://{machine.LOOPBACK}:{port}" for name, port in ports.items())
