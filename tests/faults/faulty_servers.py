"""PostgreSQL and Kafka servers that tests may kill, each behind a faulty proxy."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib import parse

from goalworker import embedded
from goalworker.embedded import machine
from tests.faults import proxy


@dataclass(frozen=True, slots=True)
class FaultyServers:
    """The servers, Kafka's direct address, and the proxies."""

    postgres: embedded.Server
    kafka: embedded.Server
    bootstrap_servers: str
    database_proxy: proxy.Proxy
    broker_proxy: proxy.Proxy

    def proxied_settings(self, database_url: str) -> dict[str, str]:
        """Return the settings with which a worker reaches Kafka and this database through the proxies."""
        parts = parse.urlsplit(database_url)
        name = parts.netloc.rpartition(":")[0]
        return {
            "DATABASE__URL": parts._replace(netloc=f"{name}:{self.database_proxy.port}").geturl(),
            "KAFKA__BOOTSTRAP_SERVERS": f"{machine.LOOPBACK}:{self.broker_proxy.port}",
        }


@contextlib.contextmanager
def running() -> Iterator[FaultyServers]:
    """Start servers and proxies; a test that stops a server starts it again."""
    port, behind_proxy, proxy_port, controller_port = (machine.free_port() for _ in range(4))
    # Kafka advertises its addresses: clients that come through the proxy must stay on it.
    listeners = {
        "listeners": _listeners(BROKER=port, PROXY=behind_proxy, CONTROLLER=controller_port),
        "advertised.listeners": _listeners(BROKER=port, PROXY=proxy_port),
        "listener.security.protocol.map": "BROKER:PLAINTEXT,PROXY:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@{machine.LOOPBACK}:{controller_port}",
    }
    with (
        embedded.kafka(extra_properties=listeners) as kafka,
        embedded.postgres() as postgres,
        proxy.running(postgres.port) as database_proxy,
        proxy.running(behind_proxy, proxy_port) as broker_proxy,
    ):
        yield FaultyServers(postgres, kafka, f"{machine.LOOPBACK}:{port}", database_proxy, broker_proxy)


def _listeners(**ports: int) -> str:
    return ",".join(f"{name}://{machine.LOOPBACK}:{port}" for name, port in ports.items())
