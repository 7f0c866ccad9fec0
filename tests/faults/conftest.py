"""Servers that only these tests have, since they kill them; and an installation each, over a good wire or a bad one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults import machines, workers
from tests.kit import support, worker_process


@pytest.fixture(scope="session")
def bad() -> Iterator[machines.Machines]:
    """The servers and the wires before them; every test leaves them whole."""
    with machines.running() as both:
        yield both


@pytest.fixture(scope="session")
def postgres_url(bad: machines.Machines) -> str:
    return bad.postgres.address


@pytest.fixture(scope="session")
def bootstrap_servers(bad: machines.Machines) -> str:
    return bad.bootstrap_servers


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """As for all tests, on the server of these."""
    with support.migrated_database(postgres_url) as name:
        yield name


@pytest.fixture
def there(
    bootstrap_servers: str, postgres_url: str, template_database: str, tmp_path: Path
) -> Iterator[worker_process.Installation]:
    """The test's own installation, without a worker, whose workers are on the good wire, and whose logs are silent."""
    with worker_process.installation(
        bootstrap_servers, postgres_url, template_database, tmp_path, settings=workers.SECRETS
    ) as installation:
        yield installation
        assert workers.leaks(installation) == []


@pytest.fixture
def behind_wires(bad: machines.Machines, there: worker_process.Installation) -> Iterator[worker_process.Installation]:
    """The test's own installation, whose workers are on the bad wires; the test itself is not."""
    yield replace(there, settings={**there.settings, **bad.by_wire(there.database_url)})
    bad.database_wire.heal()
    bad.broker_wire.heal()
