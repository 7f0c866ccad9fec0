"""`goalworker dlq redrive` and `purge` on a real broker: sent, kept, skipped, resumed and deleted letters."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiokafka
import pytest
from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from goalworker.pipeline import dead_letters
from tests.kit import shells, support
from tests.kit.shells import Shell

BEGUN_MS = int(time.time() * 1000) - 60_000
DEAD_LETTERED_MS = BEGUN_MS + 30_000


class Broker:
    """Topics of the test, and what they hold."""

    def __init__(self, bootstrap_servers: str, topics: Mapping[str, str]) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.topics = topics

    def letter(self, number: int, topic: str = "tag_added", reason: str = "invalid_data") -> dead_letters.DeadLetter:
        """Return a letter whose key is its number, dead-lettered this many milliseconds later."""
        key, value = b"%d" % number, b"\xff%d" % number
        headers = [("trace", b"\xff\x00"), ("nothing", None)]
        record = aiokafka.ConsumerRecord(
            self.topics[topic], 1, number, BEGUN_MS + number, 0, key, value, None, len(key), len(value), headers
        )
        return dead_letters.DeadLetter(record, reason, "cannot be used")

    async def dead_letter(self, *letters: dead_letters.DeadLetter) -> None:
        """Put letters into partition 0 in this order."""
        topic = self.topics["dead_letters"]
        async with shells.producing(self.bootstrap_servers) as producer:
            for letter in letters:
                made = dead_letters.record_of(letter, topic, "a-group", redriven=False)
                await producer.send(
                    topic,
                    made.value,
                    key=made.key,
                    partition=0,
                    headers=list(made.headers),
                    timestamp_ms=DEAD_LETTERED_MS + letter.record.offset,
                )

    async def redriven(self) -> list[aiokafka.ConsumerRecord]:
        """Return the records of the redrive topic."""
        return await self._records("redrive")

    async def keys(self) -> list[int]:
        """Return the numbers of the redriven letters, repeats included."""
        return sorted(int(record.key) for record in await self.redriven())

    async def left(self) -> list[int]:
        """Return the numbers of the letters in the DLQ."""
        return [int(record.key) for record in await self._records("dead_letters")]

    async def floor(self, group_id: str) -> int | None:
        """Return the group's committed offset for partition 0."""
        async with support.admin_client(self.bootstrap_servers) as admin:
            found = await admin.list_consumer_group_offsets(group_id)
        committed = found.get(TopicPartition(self.topics["dead_letters"], 0))
        return None if committed is None else int(committed.offset)

    async def configure_redrive(self, name: str, value: str) -> None:
        """Configure the redrive topic, and wait until the broker has applied it."""
        where = ConfigResourceType.TOPIC, self.topics["redrive"]
        known = None
        async with support.admin_client(self.bootstrap_servers) as admin:
            await admin.alter_configs([ConfigResource(*where, configs={name: value})])
            while known != value:
                (answer,) = await admin.describe_configs([ConfigResource(*where)])
                known = next(entry[1] for entry in answer.resources[0][4] if entry[0] == name)

    async def _records(self, topic: str) -> list[aiokafka.ConsumerRecord]:
        partitions = [TopicPartition(self.topics[topic], number) for number in range(support.PARTITIONS)]
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=self.bootstrap_servers, fetch_max_wait_ms=10)
        async with consumer:
            consumer.assign(partitions)
            await consumer.seek_to_beginning()
            ends, found = await consumer.end_offsets(partitions), []
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    found += (await consumer.getmany(partition, timeout_ms=1_000)).get(partition, [])
        return found


@pytest.fixture
def broker(bootstrap_servers: str, topics: dict[str, str]) -> Broker:
    return Broker(bootstrap_servers, topics)


@pytest.fixture
def redrive(with_kafka: Shell) -> Callable[..., int]:
    """Run `dlq redrive`; return the number of letters that it reports as sent."""

    def run(*words: object) -> int:
        return sum(row["records"] for row in with_kafka("dlq", "redrive", "--json", *words).rows)

    return run


def redrive_group(shell: Shell) -> str:
    return f"{shell.settings['GOALWORKER_KAFKA__GROUP_ID']}.redrive"


def counted(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], int]:
    return {(row["topic"], row["reason"]): row["records"] for row in rows}


async def test_a_redriven_record_keeps_its_bytes_and_timestamp_and_counts_one_more(
    with_kafka: Shell, broker: Broker
) -> None:
    await broker.dead_letter(broker.letter(7))
    outcome = with_kafka("dlq", "redrive")
    assert (outcome.code, outcome.err, outcome.out.splitlines()[-1]) == (0, "", "1 redriven")
    (record,) = await broker.redriven()
    assert (record.key, record.value, record.timestamp) == (b"7", b"\xff7", BEGUN_MS + 7)
    assert list(record.headers) == [
        ("trace", b"\xff\x00"),
        ("nothing", None),
        ("x-original-topic", broker.topics["tag_added"].encode()),
        ("x-original-partition", b"1"),
        ("x-original-offset", b"7"),
        ("x-original-timestamp", str(BEGUN_MS + 7).encode()),
        ("x-original-group", b"a-group"),
        ("x-error-reason", b"invalid_data"),
        ("x-error-message", b"cannot be used"),
        ("x-redrive-count", b"1"),
    ]


async def test_a_dry_run_counts_by_topic_and_reason_and_changes_nothing(with_kafka: Shell, broker: Broker) -> None:
    form = broker.letter(3, "form_submitted", "invalid_json")
    await broker.dead_letter(broker.letter(1), broker.letter(2), form)
    expected = {
        (broker.topics["tag_added"], "invalid_data"): 2,
        (broker.topics["form_submitted"], "invalid_json"): 1,
    }
    assert counted(with_kafka("dlq", "redrive", "--dry-run", "--json").rows) == expected
    assert with_kafka("dlq", "redrive", "--dry-run").out.splitlines()[-1] == "3 would be redriven"
    assert await broker.redriven() == []
    assert await broker.floor(redrive_group(with_kafka)) is None
    assert counted(with_kafka("dlq", "redrive", "--json").rows) == expected


async def test_letters_that_are_not_selected_stay_and_no_letter_is_sent_twice(
    with_kafka: Shell, broker: Broker, redrive: Callable[..., int]
) -> None:
    forms = [broker.letter(number, "form_submitted") for number in (2, 4)]
    await broker.dead_letter(broker.letter(1), forms[0], broker.letter(3, reason="too_large"), forms[1])
    group_id = redrive_group(with_kafka)

    assert redrive("--topic", broker.topics["form_submitted"]) == 2
    assert (await broker.keys(), await broker.floor(group_id)) == ([2, 4], None)
    assert redrive("--reason", "too_large") == 1
    assert redrive("--until", "2020-01-01T00:00:00Z") == 0
    assert redrive("--since", "2020-01-01T00:00:00Z", "--max", 1) == 1
    assert (await broker.keys(), await broker.floor(group_id)) == ([1, 2, 3, 4], 1)
    assert redrive() == 0
    assert (await broker.keys(), await broker.floor(group_id)) == ([1, 2, 3, 4], 4)


async def test_a_limited_redrive_resumes_where_the_last_one_ended(broker: Broker, redrive: Callable[..., int]) -> None:
    await broker.dead_letter(*map(broker.letter, range(5)))
    assert [redrive("--max", 2) for _ in range(4)] == [2, 2, 1, 0]
    assert await broker.keys() == [0, 1, 2, 3, 4]


async def test_lost_or_outdated_offsets_repeat_letters_and_lose_none(
    with_kafka: Shell, broker: Broker, redrive: Callable[..., int]
) -> None:
    await broker.dead_letter(broker.letter(1))
    assert redrive() == 1
    await broker.dead_letter(broker.letter(2))
    assert with_kafka("dlq", "redrive", GOALWORKER_KAFKA__GROUP_ID="another").code == 0
    assert await broker.keys() == [1, 2]
    partition = TopicPartition(broker.topics["dead_letters"], 0)
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers, group_id=redrive_group(with_kafka), enable_auto_commit=False
    )
    async with consumer:
        consumer.assign([partition])
        await consumer.commit({partition: 1_000})
    await broker.dead_letter(broker.letter(3))
    assert redrive() == 1
    assert await broker.keys() == [1, 2, 3]


async def test_a_letter_that_a_crash_of_the_worker_wrote_twice_is_sent_once(
    broker: Broker, redrive: Callable[..., int]
) -> None:
    await broker.dead_letter(broker.letter(1), broker.letter(1))
    assert redrive() == 1


async def test_records_that_are_not_dead_letters_are_skipped(broker: Broker, redrive: Callable[..., int]) -> None:
    topic = broker.topics["dead_letters"]
    async with shells.producing(broker.bootstrap_servers) as producer:
        await producer.send_and_wait(topic, b"foreign", partition=0)
        await producer.send_and_wait(topic, None, b"key", 0, headers=[("x-original-topic", b"t")])
    await broker.dead_letter(broker.letter(1))
    assert redrive() == 1
    assert await broker.keys() == [1]


async def test_the_same_command_resumes_a_killed_redrive_at_the_same_rate(
    with_kafka: Shell, broker: Broker, redrive: Callable[..., int]
) -> None:
    letters = 800  # 20 s at this rate, which is enough for a slow test
    await broker.dead_letter(*map(broker.letter, range(letters)))
    begun = time.monotonic()
    with with_kafka.started("dlq", "redrive", "--rate", 40) as process:
        while (sent := len(await broker.redriven())) < 12:  # it has committed the first four of these
            assert process.poll() is None
        process.kill()
        process.communicate()
    assert sent <= 4 + 40 * (time.monotonic() - begun)
    already = await broker.keys()
    assert 12 <= len(already) < letters
    assert await broker.floor(redrive_group(with_kafka)) in range(4, len(already) + 1, 4)
    assert redrive() == letters - len(already)
    assert await broker.keys() == list(range(letters))


async def test_a_redrive_topic_with_log_append_time_is_refused(with_kafka: Shell, broker: Broker) -> None:
    await broker.dead_letter(broker.letter(1))
    await broker.configure_redrive("message.timestamp.type", "LogAppendTime")
    shells.assert_one_sentence(with_kafka("dlq", "redrive"), 4, broker.topics["redrive"], "message.timestamp.type")


async def test_letters_older_than_the_retention_of_redrive_give_a_warning(with_kafka: Shell, broker: Broker) -> None:
    await broker.dead_letter(broker.letter(1))
    await broker.configure_redrive("retention.ms", "1000")
    outcome = with_kafka("dlq", "redrive")
    assert outcome.code == 0
    assert "redriven_records_may_expire" in outcome.err


async def test_a_letter_that_the_redrive_topic_refuses_is_named_and_sent_later(
    with_kafka: Shell, broker: Broker, redrive: Callable[..., int]
) -> None:
    await broker.dead_letter(broker.letter(1))
    await broker.configure_redrive("max.message.bytes", "100")
    shells.assert_one_sentence(with_kafka("dlq", "redrive"), 4, "from 0:0 on were not redriven", "MessageSizeTooLarge")
    await broker.configure_redrive("max.message.bytes", "1000")
    assert redrive() == 1


def test_an_empty_redrive_is_reported_in_a_sentence(with_kafka: Shell) -> None:
    assert with_kafka("dlq", "redrive") == (0, "no open dead letters\n", "")


# --- purge ---


async def test_purge_deletes_letters_before_a_time_and_counts_them(
    with_kafka: Shell, broker: Broker, redrive: Callable[..., int]
) -> None:
    await broker.dead_letter(*map(broker.letter, range(5)))
    assert redrive("--max", 1) == 1
    third = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(DEAD_LETTERED_MS // 1000))
    third += f".{DEAD_LETTERED_MS % 1000 + 3:03}Z"
    assert with_kafka("dlq", "purge", "--before", "P1D", "--yes").out.startswith("0 deleted")
    assert with_kafka("dlq", "purge", "--before", third, "--yes").out.startswith("3 deleted")
    assert await broker.left() == [3, 4]
    assert redrive() == 2


async def test_purge_deletes_all_in_every_partition(with_kafka: Shell, broker: Broker) -> None:
    topic = broker.topics["dead_letters"]
    await broker.dead_letter(broker.letter(1), broker.letter(2))
    async with shells.producing(broker.bootstrap_servers) as producer:
        await producer.send_and_wait(topic, b"", b"3", 2)
    outcome = with_kafka("dlq", "purge", "--all", "--yes")
    assert outcome == (0, f"3 deleted from {topic}\n", "")
    assert await broker.left() == []
    assert with_kafka("dlq", "purge", "--all", "--yes").out.startswith("0 deleted")


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, [1]), ("y", 0, [])])
async def test_purge_asks_at_a_terminal(
    with_kafka: Shell, broker: Broker, answer: str, code: int, left: Sequence[int]
) -> None:
    await broker.dead_letter(broker.letter(1))
    outcome = with_kafka.at_terminal(f"{answer}\n", "dlq", "purge", "--all")
    assert (outcome.code, await broker.left()) == (code, left)
    assert f"Delete 1 records from {broker.topics['dead_letters']} for good?" in outcome.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--all",), "give --yes"),
        (("--yes",), "either --before or --all"),
        (("--yes", "--all", "--before", "P1D"), "either --before or --all"),
    ],
)
def test_purge_without_a_terminal_needs_explicit_options(shell: Shell, words: Sequence[str], sentence: str) -> None:
    outcome = shell("dlq", "purge", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert sentence in outcome.err
