"""Batches that compress well take a worker more time, but no more memory than others."""

import asyncio
import functools
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import aiokafka
import pytest
from aiokafka import codec
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.record._crecords import default_records

from tests.kit import clients, messages_in, worker_process

pytestmark = pytest.mark.unmeasured

MIB = 1024 * 1024
RSS_BYTES_MAX = 400 * MIB
# Records of nearly 1 MiB whose compressed batch still fits a topic; snappy compresses least.
RECORDS = {"zstd": 200, "gzip": 200, "lz4": 150, "snappy": 18}
TOTAL_RECORDS = 400


def _memory(worker: worker_process.Worker, name: str) -> int:
    """Return a memory figure of the kernel: VmHWM is the peak of a process, VmRSS its current size."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    (kibibytes,) = re.findall(rf"^{name}:\s+(\d+) kB$", status, flags=re.MULTILINE)
    return int(kibibytes) * 1024


async def _send(
    client: clients.Client, compression: str, records: Sequence[messages_in.Record], partitions: Sequence[int]
) -> None:
    """Send the same records to each partition as one batch."""
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=client.installation.bootstrap_servers,
        compression_type=compression,
        max_batch_size=1024 * MIB,
        max_request_size=1024 * MIB,
    ) as producer:
        for partition in partitions:
            batch = producer.create_batch()
            for record in records:
                assert batch.append(key=None, value=record.value, timestamp=None, headers=list(record.headers))
            await (await producer.send_batch(batch, client.installation.topics[records[0].topic], partition=partition))


def _padded(size: int) -> messages_in.Record:
    """Return a form of this size that no goal asks for."""
    data = {"contact_id": "c", "form_id": "other", "padding": ""}
    short = messages_in.event("form.submitted", data, datetime.now(UTC))
    padding = "x" * (size - len(short.value or b""))
    return messages_in.event("form.submitted", data | {"padding": padding}, datetime.now(UTC))


@pytest.mark.real_world("kafkajs#1795", "64 KB of zstd become hundreds of megabytes in the reader's memory")
@pytest.mark.parametrize("compression", RECORDS)
async def test_a_worker_needs_little_memory_for_highly_compressed_batches(
    installation: worker_process.Installation, compression: str
) -> None:
    number = RECORDS[compression]
    sends = -(-TOTAL_RECORDS // (2 * number))
    async with clients.connect(installation) as client, installation.worker() as worker:
        goal = await client.create_goal("large", "form_submitted", form_id="f")
        enrollment, at = messages_in.new_enrollment("large"), messages_in.later(goal.created_at, 1)
        await client.process(enrollment.started(at))
        before = _memory(worker, "VmRSS")
        # Records that are judged, and records that are dead-lettered for their size.
        fine, large = _padded(MIB - 1_000), _padded(MIB + 1_000)
        for _ in range(sends):
            await _send(client, compression, [fine] * (number - 2) + [large] * 2, [0, 1])
        form = enrollment.submits("f", at)
        await client.send(messages_in.in_partition(0, form), messages_in.in_partition(1, form))
        await client.settle(timeout_seconds=120)
        assert clients.kinds(await client.messages_about(enrollment)) == [("goal.achieved", 1), ("exit.goal", None)]
        topic = installation.topics["form_submitted"]
        letters = sends * 2 * 2
        assert worker.metric("dead_letters_total", topic=topic, reason="too_large") == letters
        assert worker.metric("events_total", topic=topic) == sends * 2 * number + 2
        assert {len(letter.value) for letter in await client.dead_letters()} == {len(large.value or b"")}
        most, now = _memory(worker, "VmHWM"), _memory(worker, "VmRSS")
        print(f"{compression}: {before // MIB} MiB before, {most // MIB} MiB at most, {now // MIB} MiB afterwards")
        assert most < RSS_BYTES_MAX
        assert now < before + 100 * MIB


@pytest.mark.real_world("kafkajs#1795", "one snappy block is larger than what can be decompressed in pieces")
async def test_an_unreadable_batch_ends_the_worker_and_names_how_to_skip_it(
    installation: worker_process.Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_one_block = functools.partial(codec.snappy_encode, xerial_compatible=False)
    monkeypatch.setattr(default_records, "snappy_encode", in_one_block)
    topic = installation.topics["form_submitted"]
    async with clients.connect(installation) as client:
        larger = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(16 * MIB)})
        await client.admin.alter_configs([larger])
        goal = await client.create_goal("large", "form_submitted", form_id="f")
        before, after = messages_in.new_enrollment("large"), messages_in.new_enrollment("large")
        at = messages_in.later(goal.created_at, 1)
        await client.send(before.started(at), after.started(at))
        await client.send(messages_in.in_partition(0, before.submits("f", at)))
        await _send(client, "snappy", [_padded(50 * MIB)] * 2, [0])
        await client.send(messages_in.in_partition(0, after.submits("f", at)))
        worker = installation.start()
        try:
            assert await asyncio.to_thread(worker.process.wait, 60) == 1
        finally:
            worker.kill()
        assert f"{topic}[0]: the batch of offsets 1 to 2 cannot be read: " in worker.last_words()
        assert f"`goalworker topics skip {topic} 0 --offset 2`" in worker.last_words()
        # Published already: the worker ends after that, and nobody is left to publish.
        assert clients.kinds(await client.messages_about(before)) == [("goal.achieved", 1), ("exit.goal", None)]
        assert installation.call("lag").code == 0
        assert installation.call("topics", "skip", topic, "0", "--offset", "2").code == 0
        async with installation.worker():
            await client.settle()
        assert clients.kinds(await client.messages_about(after)) == [("goal.achieved", 1), ("exit.goal", None)]


async def test_a_record_too_large_for_a_dead_letter_gets_one_without_its_value(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client, installation.worker() as worker:
        goal = await client.create_goal("large", "form_submitted", form_id="f")
        enrollment, at = messages_in.new_enrollment("large"), messages_in.later(goal.created_at, 1)
        await client.process(enrollment.started(at))
        await _send(client, "zstd", [_padded(200 * MIB), enrollment.submits("f", at)], [0])
        await client.settle(timeout_seconds=120)
        assert clients.kinds(await client.messages_about(enrollment)) == [("goal.achieved", 1), ("exit.goal", None)]
        (letter,) = await client.dead_letters()
        headers = dict(letter.headers)
        assert letter.value is None
        assert (headers["x-error-reason"], headers["x-original-offset"]) == (b"too_large", b"0")
        assert b"its value is in the original topic only" in headers["x-error-message"]
        assert _memory(worker, "VmHWM") < RSS_BYTES_MAX
        assert installation.call("dlq", "stats", "--json").code == 0
        assert installation.call("dlq", "list", "--json").code == 0
        redriven = installation.call("dlq", "redrive", "--dry-run", "--json")
        assert redriven.code == 0, redriven.err
