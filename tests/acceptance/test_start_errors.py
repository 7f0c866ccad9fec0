"""A worker that cannot start ends with one sentence and its own exit code (contract section 6)."""

import asyncio
import json
import secrets
import socket

import asyncpg
import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from goalworker.embedded import machine
from tests.kit import support, worker_process

TERMINATE_WAITING = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def refused(installation: worker_process.Installation, exit_code: int, **settings: object) -> str:
    """Return the sentence with which the worker ends."""
    ended = installation.call("run", **{"OPS__PORT": 0, **settings})
    assert ended.code == exit_code, ended.err
    assert "Traceback" not in ended.err
    assert "worker_ready" not in ended.err
    assert ended.out == ""
    last = [json.loads(line) for line in ended.err.splitlines()][-1]
    assert (last["event"], last["exit_code"]) == ("ended", exit_code)
    return str(last["error"])


def test_a_missing_topic_is_named_with_the_command_that_makes_it(shared: worker_process.Installation) -> None:
    sentence = refused(shared, 4, TOPICS__TAG_ADDED="nowhere", TOPICS__REDRIVE="neither")
    assert "neither, nowhere" in sentence
    assert "`goalworker topics create`" in sentence


def test_an_unreachable_broker_is_named(shared: worker_process.Installation) -> None:
    address = f"127.0.0.1:{machine.free_port()}"
    assert address in refused(shared, 4, KAFKA__BOOTSTRAP_SERVERS=address)


def test_an_unreachable_database_is_named_without_its_password(shared: worker_process.Installation) -> None:
    address = f"127.0.0.1:{machine.free_port()}/events"
    sentence = refused(shared, 4, DATABASE__URL=f"postgresql://ann:hunter2@{address}")
    assert f"postgresql://ann:***@{address}" in sentence


@pytest.mark.parametrize("part", ["database", "password"])
def test_a_database_that_refuses_connections_ends_with_the_same_exit_code(
    shared: worker_process.Installation, part: str
) -> None:
    url = support.with_database(shared.database_url, "nothing_here")
    if part == "password":
        name, _, address = shared.database_url.rpartition("@")
        url = f"{name}wrong@{address}"
    sentence = refused(shared, 4, DATABASE__URL=url)
    assert "GOALWORKER_DATABASE__URL" in sentence
    assert "wrong" not in sentence


def test_a_login_without_the_worker_role_is_told_which_grant_it_lacks(shared: worker_process.Installation) -> None:
    login = f"guest_{secrets.token_hex(4)}"
    support.run(support.execute(shared.database_url, f"CREATE ROLE {login} LOGIN PASSWORD 'guest'"))
    address = shared.database_url.rpartition("@")[2]
    try:
        sentence = refused(shared, 1, DATABASE__URL=f"postgresql://{login}:guest@{address}")
    finally:
        support.run(support.execute(shared.database_url, f"DROP ROLE {login}"))
    assert "permission denied" in sentence


def test_a_database_that_fails_during_the_start_ends_with_the_same_exit_code(
    shared: worker_process.Installation,
) -> None:
    async def refused_meanwhile() -> str:
        holder = await asyncpg.connect(shared.database_url)
        try:
            await holder.execute("BEGIN; LOCK TABLE paused_topics")
            starting = asyncio.create_task(asyncio.to_thread(refused, shared, 4))
            while not (starting.done() or await holder.fetch(TERMINATE_WAITING)):
                await holder.execute("SELECT pg_sleep(0.02)")
            return await starting
        finally:
            await holder.close()

    assert "cannot be used: " in support.run(refused_meanwhile())


def test_an_outdated_schema_is_reported_with_the_command_that_upgrades_it(
    shared: worker_process.Installation, postgres_url: str
) -> None:
    with support.fresh_database(postgres_url) as name:
        sentence = refused(shared, 5, DATABASE__URL=support.with_database(postgres_url, name))
    assert "`goalworker db upgrade`" in sentence


def test_an_invalid_setting_is_reported_with_a_valid_example(shared: worker_process.Installation) -> None:
    assert "for example GOALWORKER_BATCH__MAX_RECORDS=" in refused(shared, 3, BATCH__MAX_RECORDS="many")


def test_an_unknown_setting_is_an_error_with_a_suggestion(shared: worker_process.Installation) -> None:
    assert "did you mean GOALWORKER_BATCH__MAX_RECORDS?" in refused(shared, 3, BATCH__MAX_RECRODS=1)


async def test_a_dlq_that_takes_less_than_a_topic_it_serves_is_refused(shared: worker_process.Installation) -> None:
    topic, dlq = shared.topics["form_submitted"], shared.topics["goal_configured"]
    larger = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": "2000000"})
    async with support.admin_client(shared.bootstrap_servers) as admin:
        await admin.alter_configs([larger])
    swapped = {"TOPICS__DEAD_LETTERS": dlq, "TOPICS__GOAL_CONFIGURED": shared.topics["dead_letters"]}
    sentence = refused(shared, 4, **swapped)
    assert dlq in sentence
    assert topic in sentence
    assert "2000000" in sentence


def test_a_port_in_use_is_named(shared: worker_process.Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}" in refused(shared, 4, OPS__PORT=port)
