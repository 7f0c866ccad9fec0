"""Installations for tests with real processes: one per test, or one worker for all tests of a module."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.kit import clients, worker_process
from tests.kit.forker import Forker


@pytest.fixture
def installation(
    bootstrap_servers: str, postgres_url: str, template_database: str, forker: Forker, tmp_path: Path
) -> Iterator[worker_process.Installation]:
    """Installation of the test's own, without a worker."""
    with worker_process.installation(
        bootstrap_servers, postgres_url, template_database, tmp_path, forker=forker
    ) as installation:
        yield installation


@pytest.fixture(scope="module")
def shared(
    bootstrap_servers: str,
    postgres_url: str,
    template_database: str,
    forker: Forker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[worker_process.Installation]:
    """Installation for all tests of a module."""
    folder = tmp_path_factory.mktemp("shared")
    with worker_process.installation(
        bootstrap_servers, postgres_url, template_database, folder, forker=forker
    ) as installation:
        yield installation


@pytest.fixture(scope="module")
def worker(shared: worker_process.Installation) -> Iterator[worker_process.Worker]:
    """Worker for all tests of a module."""
    with worker_process.module_worker(shared) as running:
        yield running


@pytest.fixture
async def client(shared: worker_process.Installation, worker: worker_process.Worker) -> AsyncIterator[clients.Client]:
    """Clients of the module's installation."""
    async with clients.connect(shared) as talking:
        yield talking
