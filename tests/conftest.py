"""PostgreSQL and Kafka for the tests that ask for them: each is started once, by the first test that needs it."""

import contextlib
import signal
from collections.abc import Generator, Iterator

import hypothesis
import pytest

from goalworker.inspection import kafka_connection
from goalworker.kafka import fast_fetch
from tests.kit import measuring, servers, support, temporary_files
from tests.kit.forker import Forker, running_forker

UNIT = ("tests/unit/", "tests/bench/")
ACCEPTANCE, FAULTS, BROWSER = "tests/acceptance/", "tests/faults/", "tests/browser/"
# A shell without job control ignores Ctrl-C for background processes, and nohup ignores hang-ups; every process that a
# test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
temporary_files.move_to_memory()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what does no I/O, so that `make test` can select it, and what is too slow to be measured."""
    for item in items:
        if item.nodeid.startswith(UNIT):
            item.add_marker("unit")
        if item.nodeid.startswith((FAULTS, BROWSER)) or hypothesis.is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("unmeasured")


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Measure no process that only hands out tests to others."""
    with measuring.paused() if session.config.getoption("numprocesses", None) else contextlib.nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Spare coverage the tests marked as unmeasured, and those whose own process does none of the work."""
    with measuring_of(item):
        return (yield)


def measuring_of(item: pytest.Item) -> contextlib.AbstractContextManager[None]:
    if item.get_closest_marker("unmeasured"):
        return measuring.switched_off()
    return measuring.paused() if item.nodeid.startswith(ACCEPTANCE) else contextlib.nullcontext()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The server, as a superuser; tests that want a database take `database_url`."""
    with servers.postgres() as url:
        yield url


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """Process from which commands are forked."""
    with running_forker() as running:
        yield running


@pytest.fixture(scope="session")
def bootstrap_servers() -> Iterator[str]:
    with servers.kafka() as address:
        yield address


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """The name of a database that was migrated once, to be cloned."""
    with support.migrated_database(postgres_url) as name:
        yield name


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A database of the test's own, migrated and empty."""
    with support.fresh_database(postgres_url, f"TEMPLATE {template_database} STRATEGY FILE_COPY") as name:
        yield support.with_database(postgres_url, name)


@pytest.fixture
def topics(bootstrap_servers: str) -> Iterator[dict[str, str]]:
    """The test's own topics, by the lower-case names of the contract's TOPICS__ settings."""
    names = support.fresh_topics()
    support.run(support.create_topics(bootstrap_servers, names))
    yield names
    support.run(support.delete_topics(bootstrap_servers, names))


@pytest.fixture(scope="module", autouse=True)
def _own_fetching() -> Iterator[None]:
    """Undo a module's replacements of aiokafka's classes: the console, like a command, makes them in its process."""
    kept = [(module, name, getattr(module, name)) for module, name, _ in fast_fetch.replacements()]
    yield
    kafka_connection.bound_decompression.cache_clear()
    for module, name, own in kept:
        setattr(module, name, own)


@pytest.fixture
def fast_fetching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the fast path for this test alone."""
    for module, name, _ in fast_fetch.replacements():
        monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    assert fast_fetch.install()


@pytest.fixture(params=["fast", "stock"])
def fetching(request: pytest.FixtureRequest) -> str:
    """Run a test twice: with the fast path, and with aiokafka's own fetching."""
    if request.param == "fast":
        request.getfixturevalue("fast_fetching")
    return str(request.param)
