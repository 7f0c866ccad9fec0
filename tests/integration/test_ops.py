"""The operations port, as Kubernetes and Prometheus use it."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from goalworker import errors, metrics
from goalworker.runtime import ops_port


@pytest.fixture
def health() -> ops_port.Health:
    return ops_port.Health(["database", "broker"])


@pytest.fixture
async def client(health: ops_port.Health) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        ops_port.serve("127.0.0.1", 0, health) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield client


async def test_the_startup_probe_succeeds_once_the_service_has_started(
    health: ops_port.Health, client: httpx.AsyncClient
) -> None:
    answer = await client.get("/healthz/startup")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "not started",
        "checks": {"database": "not checked yet", "broker": "not checked yet"},
    }
    health.started = True
    answer = await client.get("/healthz/startup")
    assert (answer.status_code, answer.json()) == (200, {"status": "started"})


async def test_the_readiness_probe_names_every_problem(health: ops_port.Health, client: httpx.AsyncClient) -> None:
    health.set("database", None)
    health.set("broker", "no broker answers at 127.0.0.1:9092")
    answer = await client.get("/healthz/ready")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"status": "not ready", "checks": {"broker": "no broker answers at 127.0.0.1:9092"}}
    health.set("broker", None)
    answer = await client.get("/healthz/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


async def test_the_liveness_probe_depends_on_the_consumer_only(
    health: ops_port.Health, client: httpx.AsyncClient
) -> None:
    health.set("database", "the database is away")
    assert (await client.get("/healthz/live")).json() == {"status": "live"}
    health.consumer_alive = lambda: False
    answer = await client.get("/healthz/live")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not live", "detail": "the consumer task has ended"}


async def test_metrics_are_in_the_text_format_and_include_the_checks(
    health: ops_port.Health, client: httpx.AsyncClient
) -> None:
    health.set("database", None)
    answer = await client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, metrics.CONTENT_TYPE)
    assert 'goalworker_ready{check="database"} 1.0' in answer.text.splitlines()
    assert 'goalworker_ready{check="broker"} 0.0' in answer.text.splitlines()


async def test_other_paths_are_404_with_a_list_of_paths(client: httpx.AsyncClient) -> None:
    paths = ["/healthz/startup", "/healthz/live", "/healthz/ready", "/metrics"]
    for answer, code in ((await client.get("/docs"), 404), (await client.post("/metrics"), 405)):
        assert answer.status_code == code
        assert answer.json() == {"status": "nothing here", "paths": paths}


async def test_a_port_in_use_is_named_with_its_setting(health: ops_port.Health) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.DependencyError, match=rf"127\.0\.0\.1:{port}: .*GOALWORKER_OPS__PORT") as raised:
            async with ops_port.serve("127.0.0.1", port, health):
                pass
    assert raised.value.exit_code == 4


async def test_a_foreign_host_address_is_named_with_its_setting(health: ops_port.Health) -> None:
    with pytest.raises(errors.DependencyError, match=r"192\.0\.2\.1:0: .*GOALWORKER_OPS__HOST"):
        async with ops_port.serve("192.0.2.1", 0, health):
            pass


async def test_the_port_closes_at_once_despite_open_connections(health: ops_port.Health) -> None:
    async with httpx.AsyncClient() as client:
        async with ops_port.serve("127.0.0.1", 0, health) as port:
            await client.get(f"http://127.0.0.1:{port}/healthz/live")
            _, half_asked = await asyncio.open_connection("127.0.0.1", port)
            half_asked.write(b"GET /healthz/live HTTP/1.1\r\n")
            await half_asked.drain()
            ending = time.monotonic()
        assert time.monotonic() - ending < 1
        half_asked.close()
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{port}/healthz/live")


async def test_an_error_of_the_block_is_raised_unchanged(health: ops_port.Health) -> None:
    with pytest.raises(errors.StalledError, match="nothing moves"):
        async with ops_port.serve("127.0.0.1", 0, health):
            raise errors.StalledError("nothing moves")


async def test_signal_handlers_are_not_replaced(health: ops_port.Health) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with ops_port.serve("127.0.0.1", 0, health) as port, httpx.AsyncClient() as client:
        await client.get(f"http://127.0.0.1:{port}/healthz/live")
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


async def test_requests_are_not_logged(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    await client.get("/healthz/live")
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
