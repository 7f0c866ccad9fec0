"""Servers that these tests may kill, and an installation per test, with or without proxies."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults import faulty_servers, workers
from tests.kit import support, worker_process
from tests.kit.forker import Forker


@pytest.fixture(scope="package")
def servers() -> Iterator[faulty_servers.FaultyServers]:
    """Servers and proxies, which every test leaves running and without a fault."""
    with faulty_servers.running() as both:
        yield both


@pytest.fixture(scope="package")
def postgres_url(servers: faulty_servers.FaultyServers) -> str:
    return servers.postgres.address


@pytest.fixture(scope="package")
def bootstrap_servers(servers: faulty_servers.FaultyServers) -> str:
    return servers.bootstrap_servers


@pytest.fixture(scope="package")
def template_database(postgres_url: str) -> Iterator[str]:
    """Return the name of a migrated database on this suite's own server, to be cloned."""
    with support.migrated_database(postgres_url) as name:
        yield name


@pytest.fixture
def installation(
    bootstrap_servers: str, postgres_url: str, template_database: str, forker: Forker, tmp_path: Path
) -> Iterator[worker_process.Installation]:
    """Installation of the test's own, without proxies, whose logs must contain no planted text."""
    with worker_process.installation(
        bootstrap_servers, postgres_url, template_database, tmp_path, forker=forker, settings=workers.SECRETS
    ) as installation:
        yield installation
        assert workers.leaks(installation) == []


@pytest.fixture
def behind_proxies(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> Iterator[worker_process.Installation]:
    """The same installation, whose workers connect through the proxies; the test itself does not."""
    yield replace(
        installation, settings={**installation.settings, **servers.proxied_settings(installation.database_url)}
    )
    servers.database_proxy.heal()
    servers.broker_proxy.heal()
