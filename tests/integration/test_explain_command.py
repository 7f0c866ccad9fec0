"""`goalworker goals explain` as called from a shell: text, JSON, errors, and dead letters on a real broker."""

import asyncio
from collections.abc import Mapping

import aiokafka
from sqlalchemy.ext import asyncio as sa_async

from goalworker.api import explanation_models
from goalworker.pipeline import dead_letters
from goalworker.postgres import connections
from tests.integration import kept_events, world
from tests.integration.scenes import TENANT, paid, purchase, started
from tests.kit import shells
from tests.kit.shells import Shell
from tests.kit.strategies import at

EXPLAIN = ("goals", "explain", "--tenant", TENANT, "w1", "--contact")


async def _missed(pool: sa_async.AsyncEngine, administrator: connections.Connection) -> None:
    """Let c1 pay less than the goal of its workflow asks for."""
    await world.install(administrator, [purchase(1, min_amount=200)])
    await world.Worker(pool, world.Broker()).take(started(0), paid("p", 1))
    await kept_events.keep(pool, paid("p", 1))
    await kept_events.cover(pool, at(-5))


async def test_a_person_reads_a_sentence_and_a_mark_for_each_gate(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, with_database: Shell
) -> None:
    await _missed(pool, administrator)
    outcome = await asyncio.to_thread(with_database, *EXPLAIN, "c1")
    assert (outcome.code, outcome.err) == (0, "")
    assert "not achieved: c1 paid 100 EUR on 1 January (p1); the goal asks for at least" in outcome.out
    assert sum(line.startswith(("  ✓ ", "  ✗ ", "  ? ")) for line in outcome.out.splitlines()) == 10


async def test_a_program_reads_the_answer_of_the_api(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, with_database: Shell
) -> None:
    await _missed(pool, administrator)
    outcome = await asyncio.to_thread(with_database, *EXPLAIN, "c1", "--json")
    found = explanation_models.Explanations.model_validate_json(outcome.out)
    assert found.explanations[0].reason == "criteria_not_met"
    assert found.coverage.dead_letters == "not_searched"


async def test_an_unknown_contact_is_one_sentence(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, with_database: Shell
) -> None:
    await _missed(pool, administrator)
    outcome = await asyncio.to_thread(with_database, *EXPLAIN, "nobody")
    shells.assert_one_sentence(outcome, 1, "Unknown contact")


def _letter(topic: str, offset: int, key: bytes | None, value: bytes) -> dead_letters.DeadLetter:
    record = aiokafka.ConsumerRecord(topic, 0, offset, 1, 0, key, value, None, len(key or b""), len(value), [])
    return dead_letters.DeadLetter(record, "invalid_data", "/data/amount: is missing")


async def _send(bootstrap_servers: str, topics: Mapping[str, str], *letters: dead_letters.DeadLetter) -> None:
    async with shells.producing(bootstrap_servers) as producer:
        for letter in letters:
            made = dead_letters.record_of(letter, topics["dead_letters"], "goalworker", redriven=False)
            headers = list(made.headers)
            await producer.send_and_wait(made.topic, made.value, key=made.key, partition=0, headers=headers)


async def test_dead_letters_are_the_contacts_by_their_key_or_their_value(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    with_both: Shell,
    bootstrap_servers: str,
    topics: dict[str, str],
) -> None:
    await _missed(pool, administrator)
    topic = topics["payment_completed"]
    named = b'{"specversion": "1.0", "tenantid": "%s", "data": {"contact_id": "%s"}}'
    await _send(
        bootstrap_servers,
        topics,
        _letter(topic, 1, b"north:c1", b"nonsense"),
        _letter(topic, 2, b"north:c2", b"nonsense"),
        _letter(topic, 3, None, named % (b"north", b"c1")),
        _letter(topic, 4, None, named % (b"south", b"c1")),
        _letter(topic, 5, None, named % (b"north", b"c2")),
    )
    outcome = await asyncio.to_thread(with_both, *EXPLAIN, "c1", "--dead-letters", "--json")
    found = explanation_models.Explanations.model_validate_json(outcome.out)
    letters = found.explanations[0].also.dead_letters
    assert letters is not None
    assert [(letter.topic, letter.partition, letter.offset) for letter in letters] == [(topic, 0, 0), (topic, 0, 2)]
    assert found.coverage.dead_letters == "searched"
