"""`goalworker topics` and `lag` on a real broker."""

import aiokafka

from goalworker import database
from tests import support
from tests.integration import shells
from tests.integration.shells import Shell


async def configuration_of(bootstrap_servers: str, topic: str) -> dict[str, str]:
    kind = aiokafka.admin.config_resource.ConfigResourceType.TOPIC
    async with support.admin_client(bootstrap_servers) as admin:
        (answer,) = await admin.describe_configs([aiokafka.admin.config_resource.ConfigResource(kind, topic)])
    return {key: value for key, value, *_ in answer.resources[0][4]}


async def test_topics_create_makes_what_is_missing_and_leaves_the_rest(
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


def test_more_copies_than_brokers_are_refused_with_the_brokers_words(
    shell: Shell, bootstrap_servers: str, absent_topics: dict[str, str]
) -> None:
    shell = shell.set(shells.variables_of(bootstrap_servers, absent_topics))
    shells.assert_one_sentence(shell("topics", "create", "--replication", 99), 1, "could not be created", "replicat")


async def test_a_paused_topic_is_listed_with_its_reason_and_resumed_once(
    with_both: Shell, topics: dict[str, str], administrator: database.Connection
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

    async with shells.producing(bootstrap_servers, transactional_id=group) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(partitions[0].topic, b"{}", partition=0)
        open_transaction = {row["partition"]: row for row in with_kafka("lag", "--json").rows[:2]}
        await producer.abort_transaction()
    assert open_transaction[0]["end"] == 3


def test_lag_names_the_topics_that_are_not_there(shell: Shell, bootstrap_servers: str) -> None:
    names = support.fresh_topics()
    shell = shell.set(shells.variables_of(bootstrap_servers, names))
    shells.assert_one_sentence(shell("lag"), 4, names["tag_added"], names["redrive"], "`goalworker topics create`")
