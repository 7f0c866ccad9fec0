"""`goalworker topics` and `lag` on a real broker."""

import asyncio
import json
import re
import time

import aiokafka
import pytest

from goalworker.admin import record_skipping
from goalworker.postgres import connections
from tests.kit import shells, support
from tests.kit.shells import Shell


async def configuration_of(bootstrap_servers: str, topic: str) -> dict[str, str]:
    kind = aiokafka.admin.config_resource.ConfigResourceType.TOPIC
    async with support.admin_client(bootstrap_servers) as admin:
        (answer,) = await admin.describe_configs([aiokafka.admin.config_resource.ConfigResource(kind, topic)])
    return {key: value for key, value, *_ in answer.resources[0][4]}


async def test_topics_create_creates_missing_topics_only(
    shell: Shell, bootstrap_servers: str, absent_topics: dict[str, str]
) -> None:
    await shells.create_topic(bootstrap_servers, absent_topics["tag_added"])
    shell = shell.set(shells.variables_of(bootstrap_servers, absent_topics))
    before = {row["topic"]: row["state"] for row in shell("topics", "list", "--json").rows}
    assert before == {name: "ready" if logical == "tag_added" else "missing" for logical, name in absent_topics.items()}

    outcome = shell("topics", "create", "--partitions", 3)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{absent_topics['tag_added']}: exists already, left as it is" in outcome.out.splitlines()
    assert f"{absent_topics['redrive']}: created" in outcome.out.splitlines()

    rows = {row["topic"]: row for row in shell("topics", "list", "--json").rows}
    partitions = {logical: rows[name]["partitions"] for logical, name in absent_topics.items()}
    assert partitions == {**dict.fromkeys(absent_topics, 3), "tag_added": 1}
    letters = await configuration_of(bootstrap_servers, absent_topics["dead_letters"])
    assert letters["max.message.bytes"] == str(16 * 1024 * 1024)
    redrive = await configuration_of(bootstrap_servers, absent_topics["redrive"])
    assert (redrive["retention.ms"], redrive["message.timestamp.type"]) == ("-1", "CreateTime")
    configured = await configuration_of(bootstrap_servers, absent_topics["goal_configured"])
    assert configured["cleanup.policy"] == "compact"

    again = shell("topics", "create")
    assert again.code == 0
    assert "created" not in again.out


def test_more_replicas_than_brokers_are_refused_with_the_brokers_error(
    shell: Shell, bootstrap_servers: str, absent_topics: dict[str, str]
) -> None:
    shell = shell.set(shells.variables_of(bootstrap_servers, absent_topics))
    shells.assert_one_sentence(shell("topics", "create", "--replication", 99), 1, "could not be created", "replicat")


async def test_a_paused_topic_is_listed_with_its_reason_and_resumed_once(
    with_both: Shell, topics: dict[str, str], administrator: connections.Connection
) -> None:
    topic = topics["tag_added"]
    await administrator.execute(
        "INSERT INTO paused_topics VALUES ($1, true, clock_timestamp(), 'invalid_json', 2, 17)", topic
    )
    (paused,) = (row for row in with_both("topics", "list", "--json").rows if row["state"] == "paused")
    assert (paused["topic"], paused["reason"]) == (topic, "invalid_json")
    assert (paused["sample_partition"], paused["sample_offset"]) == (2, 17)

    resumed = with_both("topics", "resume", topic, "--accept", 5)
    assert resumed == (0, f"{topic} is resumed; its next 5 records are let through\n", "")
    assert tuple(await administrator.fetchrow("SELECT is_paused, accept_records FROM paused_topics")) == (False, 5)
    (act,) = with_both("topics", "audit", "--json").rows
    assert (act["action"], act["detail"]) == ("topic_resumed", {"topic": topic, "accepted_records": 5})
    shells.assert_one_sentence(with_both("topics", "resume", topic), 1, f"{topic} is not paused")


# --- lag ---


async def test_lag_counts_from_the_commit_or_the_beginning_to_the_last_stable_offset(
    with_kafka: Shell, bootstrap_servers: str, topics: dict[str, str]
) -> None:
    partitions = [aiokafka.TopicPartition(topics["tag_added"], number) for number in (0, 1)]
    async with shells.producing(bootstrap_servers) as producer:
        for partition in partitions * 3:
            await producer.send_and_wait(partition.topic, b"{}", partition=partition.partition)
    group = with_kafka.settings["GOALWORKER_KAFKA__GROUP_ID"]
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign(partitions[:1])
    await consumer.commit({partitions[0]: 2})
    await consumer.stop()

    rows = {(row["topic"], row["partition"]): row for row in with_kafka("lag", "--json").rows}
    assert len(rows) == 7 * support.PARTITIONS
    found = [rows[partition] for partition in partitions]
    assert [(row["committed"], row["end"], row["lag"]) for row in found] == [(2, 3, 1), (None, 3, 3)]
    assert all(0 <= row["behind_seconds"] < 600 for row in found)
    assert {row["behind_seconds"] for row in rows.values() if not row["lag"]} == {None}
    assert re.search(r"\ntotal: 4 records, behind by \d+ s\n$", with_kafka("lag").out)
    others = with_kafka("lag", "--group", f"{group}-2", "--json").rows
    assert [row["committed"] for row in others if row["lag"]] == [None, None]

    async with shells.producing(bootstrap_servers, transactional_id=group) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(partitions[0].topic, b"{}", partition=0)
        open_transaction = {row["partition"]: row for row in with_kafka("lag", "--json").rows[:2]}
        await producer.abort_transaction()
    assert (open_transaction[0]["end"], open_transaction[0]["lag"], open_transaction[0]["hidden"]) == (3, 1, 1)
    assert open_transaction[1]["hidden"] == 0


async def test_lag_is_as_old_as_the_first_record_that_is_not_committed(
    with_kafka: Shell, bootstrap_servers: str, topics: dict[str, str]
) -> None:
    an_hour_ago_ms = int((time.time() - 3_600) * 1000)
    assert with_kafka("lag").out.endswith("\ntotal: 0 records, nothing is behind\n")
    async with shells.producing(bootstrap_servers) as producer:
        for age_ms in (0, 1_800_000):
            at_ms = an_hour_ago_ms + age_ms
            await producer.send_and_wait(topics["tag_added"], b"{}", partition=0, timestamp_ms=at_ms)
    behind = {row["behind_seconds"] for row in with_kafka("lag", "--json").rows if row["lag"]}
    assert len(behind) == 1
    assert 3_600 <= behind.pop() < 3_900


# --- skip ---


async def test_a_record_is_skipped_for_good_as_an_audited_act(
    with_both: Shell, bootstrap_servers: str, topics: dict[str, str]
) -> None:
    topic = topics["tag_added"]
    async with shells.producing(bootstrap_servers) as producer:
        for _ in range(3):
            await producer.send_and_wait(topic, b"{}", partition=1)
    skip = ("topics", "skip", topic, 1, "--offset")

    def lag() -> int:
        rows = with_both("lag", "--json").rows
        return next(int(row["lag"]) for row in rows if (row["topic"], row["partition"]) == (topic, 1))

    planned = with_both(*skip, 0, "--dry-run")
    assert (planned.code, planned.err) == (0, "")
    assert "the record at 0 would be skipped" in planned.out
    assert (lag(), with_both("topics", "audit", "--json").rows) == (3, [])
    shells.assert_one_sentence(with_both(*skip, 1), 1, "the next record of the group is at 0")

    skipped = with_both(*skip, 0, "--json", GOALWORKER_LOG__FORMAT="json")
    facts = {"topic": topic, "partition": 1, "offset": 0}
    assert json.loads(skipped.out) == {**facts, "skipped": True}
    assert [line["event"] for line in map(json.loads, skipped.err.splitlines())] == ["record_skipped"]
    (act,) = with_both("topics", "audit", "--json").rows
    group = with_both.settings["GOALWORKER_KAFKA__GROUP_ID"]
    assert (act["action"], act["detail"]) == ("record_skipped", {**facts, "group_id": group})
    assert act["actor"].startswith("cli:")
    assert lag() == 2
    shells.assert_one_sentence(with_both(*skip, 0), 1, "is at 1 already")
    shells.assert_one_sentence(with_both(*skip, 3), 1, "has no record at 3 yet")
    shells.assert_one_sentence(with_both("topics", "skip", topic, 99, "--offset", 0), 1, "partitions 0 to 3 only")
    assert with_both("topics", "skip", "elsewhere", 0, "--offset", 0).code == 2


async def test_no_record_is_skipped_or_audited_while_a_worker_runs(
    with_both: Shell, bootstrap_servers: str, topics: dict[str, str]
) -> None:
    topic, group = topics["tag_added"], with_both.settings["GOALWORKER_KAFKA__GROUP_ID"]
    async with shells.producing(bootstrap_servers) as producer:
        await producer.send_and_wait(topic, b"{}", partition=0)
    member = aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=bootstrap_servers, group_id=group)
    async with member:
        outcome = await asyncio.to_thread(with_both, "topics", "skip", topic, 0, "--offset", 0)
    shells.assert_one_sentence(outcome, 1, "while it has members", "then skip it again")
    assert with_both("topics", "audit", "--json").rows == []


@pytest.mark.parametrize(
    ("position", "offset", "reason"),
    [
        (record_skipping.Position(5, 0, 9, 5), 5, None),
        (record_skipping.Position(5, 0, 9, 7), 7, None),  # only transaction markers lie between
        (record_skipping.Position(5, 0, 9, None), 5, None),  # the record at this offset may be unreadable
        (record_skipping.Position(5, 0, 9, 5), 4, "is at 5 already"),
        (record_skipping.Position(5, 0, 9, 5), 6, "the next record of the group is at 5"),
        (record_skipping.Position(5, 0, 9, None), 6, "the next record of the group is at 5"),
        (record_skipping.Position(5, 0, 9, 5), 9, "ends before 9"),
    ],
)
def test_only_the_next_record_can_be_skipped(
    position: record_skipping.Position, offset: int, reason: str | None
) -> None:
    found = record_skipping.refusal(position, offset)
    assert (found is None) if reason is None else (found is not None and reason in found)


def test_lag_names_missing_topics(shell: Shell, bootstrap_servers: str) -> None:
    names = support.fresh_topics()
    shell = shell.set(shells.variables_of(bootstrap_servers, names))
    shells.assert_one_sentence(shell("lag"), 4, names["tag_added"], names["redrive"], "`goalworker topics create`")
