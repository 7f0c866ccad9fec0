"""A worker that can never join its group ends, and doctor predicts it."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import aiokafka
import pytest
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from goalworker import embedded
from tests.kit import shells, support
from tests.kit.shells import Shell

TOPICS = support.fresh_topics()
SESSION_SECONDS_MAX = 20


@pytest.fixture(scope="module")
def strict() -> Iterator[str]:
    """Address of a broker that allows short sessions only."""
    with embedded.kafka(extra_properties={"group.max.session.timeout.ms": str(SESSION_SECONDS_MAX * 1_000)}) as broker:
        support.run(support.create_topics(broker.address, TOPICS))
        yield broker.address


@pytest.fixture
def at_strict(strict: str, with_database: Shell) -> Shell:
    """Shell with the default session timeout, which this broker refuses."""
    return with_database.set({**shells.variables_of(strict, TOPICS), "GOALWORKER_OPS__PORT": "0"})


@pytest.mark.real_world(
    "kafka-python#837", "group.max.session.timeout.ms of the broker is below the client's session timeout"
)
def test_a_session_timeout_that_the_broker_refuses_ends_the_worker(at_strict: Shell, strict: str) -> None:
    outcome = at_strict("run")
    assert (outcome.code, outcome.out) == (3, ""), outcome
    sentence = shells.last_words(outcome)
    assert f"Kafka at {strict} refuses a session timeout of 45 s" in sentence
    assert "GOALWORKER_KAFKA__SESSION_TIMEOUT_SECONDS" in sentence


@pytest.mark.parametrize(
    ("seconds", "state"), [(SESSION_SECONDS_MAX, "ok"), (SESSION_SECONDS_MAX + 1, "problem"), (5, "problem")]
)
def test_doctor_compares_the_session_timeout_with_the_brokers_bounds(
    seconds: int, state: str, at_strict: Shell
) -> None:
    outcome = at_strict("doctor", GOALWORKER_KAFKA__SESSION_TIMEOUT_SECONDS=str(seconds))
    (line,) = [line for line in outcome.out.splitlines() if "session timeouts" in line]
    assert line.startswith(f"{state} ")
    assert f"from 6 s to {SESSION_SECONDS_MAX} s" in line
    assert ("GOALWORKER_KAFKA__SESSION_TIMEOUT_SECONDS" in line) is (state == "problem")


@contextlib.asynccontextmanager
async def strangers(bootstrap_servers: str, topic: str, group: str) -> AsyncIterator[None]:
    """Join the group as a member with another assignor."""
    stranger = aiokafka.AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        group_id=group,
        partition_assignment_strategy=(RangePartitionAssignor,),
        session_timeout_ms=10_000,
    )
    await stranger.start()
    try:
        yield
    finally:
        await stranger.stop()


@pytest.mark.real_world("posthog#17476", "other consumers of the group use another assignor")
async def test_a_group_whose_members_use_another_assignor_ends_the_worker(at_strict: Shell, strict: str) -> None:
    group = at_strict.settings["GOALWORKER_KAFKA__GROUP_ID"]
    shell = at_strict.set({"GOALWORKER_KAFKA__SESSION_TIMEOUT_SECONDS": "10"})
    async with strangers(strict, TOPICS["tag_added"], group):
        outcome = shell("run")
    assert (outcome.code, outcome.out) == (4, ""), outcome
    sentence = shells.last_words(outcome)
    assert f"the consumer group {group} has members that are not workers of goalworker" in sentence
    assert "GOALWORKER_KAFKA__GROUP_ID" in sentence
