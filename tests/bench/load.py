"""Events for the bench; the number of hits and achievements is known by construction."""

import asyncio
import hashlib
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import cycle, islice
from typing import Any

import aiokafka
from aiokafka.partitioner import DefaultPartitioner

PARTITIONS = 4
HEADERS = [("content-type", b"application/cloudevents+json")]
BATCH_BYTES = 900_000
OFFER_SECONDS = 0.1

# By n % 5 of goal n: the topic's setting, the CloudEvents type, and the data; %s is the value of the criteria.
KINDS: Sequence[tuple[str, str, str]] = (
    ("tag_added", "contact.tag.added", '"tag_id":"%s","tag_name":"a name that people read"'),
    (
        "payment_completed",
        "payment.completed",
        '"payment_id":"payment-1","amount":"49.90","currency":"EUR","product_ids":["%s"]',
    ),
    ("appointment_booked", "appointment.booked", '"appointment_id":"appointment-1","calendar_id":"%s"'),
    ("form_submitted", "form.submitted", '"form_id":"%s","submission_id":"submission-0001"'),
    ("stage_changed", "pipeline.stage.changed", '"pipeline_id":"pipeline-1","stage_id":"%s","deal_id":"deal-1"'),
)
_PARTITIONER = DefaultPartitioner()
_EVENT = (
    '{"specversion":"1.0","id":"event-%012d","source":"/bench/load","type":"%s","time":"%s","tenantid":"%s",'
    '"datacontenttype":"application/json","subject":"%s","data":{"contact_id":"%s",%s}}'
)


LIFECYCLE = "workflow_lifecycle"
_STARTED = (
    '{"specversion":"1.0","id":"started-%012d","source":"/bench/engine","type":"workflow.enrollment.started",'
    '"time":"2025-01-01T00:00:00Z","subject":"%s","tenantid":"%s","datacontenttype":"application/json",'
    '"data":{"workflow_id":"%s","enrollment_id":"%s","contact_id":"%s"}}'
)

Message = tuple[str, bytes, bytes]
"""Topic (its setting), key and value."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Number of events, and how many in a hundred hit a goal and how many achieve one."""

    events: int
    hits: int
    achieved: int
    goals: int = 1_000
    tenants: int = 10
    stride: int = 1
    """Enrollments from one that achieves to the next: a large table is then met all over."""
    keyed: bool = False
    """Whether each event lies in the partition of its key; otherwise full batches go to all in turn."""

    def part(self, share: int) -> "Mix":
        """Return one nth, in whole hundreds of events."""
        return replace(self, events=self.events // share // 100 * 100)

    @property
    def achievements(self) -> int:
        """Return the number of achievements, which is that of the exits too."""
        return self.events * self.achieved // 100


def partition_of(key: bytes) -> int:
    """Return the partition in which Kafka's clients put a key."""
    return int(_PARTITIONER(key, range(PARTITIONS), range(PARTITIONS)))


def tenant_of(goal: int, tenants: int) -> str:
    """Return the tenant of goal n, which SQL can build too (seed.py)."""
    return f"tenant-{goal % tenants:06d}"


def contact_of(number: int) -> str:
    """Return the contact of enrollment n."""
    return f"contact-{number:09d}"


def events(mix: Mix) -> Iterator[Message]:
    """Yield the messages of a mix; achieving events are of the enrollments 0, stride, ... in turn."""
    time = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    enrolled = 0
    for number in range(mix.events):
        # Spread over the hundred, so that every batch has its share.
        place = number * 37 % 100
        goal = enrolled % mix.goals if place < mix.achieved else number * 7919 % mix.goals
        topic, type_, data = KINDS[goal % len(KINDS)]
        tenant = tenant_of(goal, mix.tenants)
        if place < mix.achieved:
            contact, enrolled = contact_of(enrolled), enrolled + mix.stride
        else:
            contact = f"visitor-{number:09d}"
        wanted = f"wanted-{goal:09d}" if place < mix.hits else f"something-{number % 5000:06d}"
        value = _EVENT % (number, type_, time, tenant, contact, contact, data % wanted)
        yield topic, f"{tenant}:{contact}".encode(), value.encode()


def enrollments(mix: Mix, count: int) -> Iterator[Message]:
    """Yield the started messages of the first enrollments, as seed.py writes them."""
    for number in range(count):
        goal = number % mix.goals
        tenant, contact = tenant_of(goal, mix.tenants), contact_of(number)
        run = uuid.UUID(bytes=hashlib.md5(f"run {number}".encode(), usedforsecurity=False).digest())
        workflow = f"workflow-{goal // (3 * mix.tenants)}"
        value = _STARTED % (number, run, tenant, workflow, run, contact)
        yield LIFECYCLE, f"{tenant}:{contact}".encode(), value.encode()


async def send(bootstrap_servers: str, topics: Mapping[str, str], mix: Mix) -> int:
    """Send a mix, in full batches over all partitions; return the bytes of an average value."""
    place = partition_of if mix.keyed else None
    return await send_all(bootstrap_servers, topics, events(mix), place) // mix.events


async def send_all(
    bootstrap_servers: str,
    topics: Mapping[str, str],
    messages: Iterable[Message],
    place: Callable[[bytes], int] | None = None,
    timestamp_ms: int | None = None,
) -> int:
    """Send messages in full batches, placed by their key or to all partitions in turn; return the bytes of values."""
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, acks=1, linger_ms=0, max_batch_size=BATCH_BYTES, max_request_size=2**20
    ) as producer:
        turns: dict[str, Iterator[int]] = defaultdict(lambda: cycle(range(PARTITIONS)))
        building: dict[tuple[str, int | None], Any] = defaultdict(producer.create_batch)
        size, sent = 0, []

        async def flush(topic: str, partition: int | None) -> None:
            batch = building.pop((topic, partition))
            to = next(turns[topic]) if partition is None else partition
            sent.append(await producer.send_batch(batch, topics[topic], partition=to))

        for topic, key, value in messages:
            size += len(value)
            at = (topic, place(key) if place else None)
            while building[at].append(key=key, value=value, timestamp=timestamp_ms, headers=HEADERS) is None:
                await flush(*at)
        for at in list(building):
            await flush(*at)
        await asyncio.gather(*sent)
        return size


async def offer(bootstrap_servers: str, topics: Mapping[str, str], mix: Mix, events_per_second: int) -> None:
    """Send all at a steady rate, in batches, which cost the machine little."""
    each = int(events_per_second * OFFER_SECONDS)
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, acks=1, linger_ms=0, max_batch_size=BATCH_BYTES, max_request_size=2**20
    ) as producer:
        partitions = cycle(range(PARTITIONS))
        began = time.monotonic()
        for number, slice_ in enumerate(paced(mix, each)):
            await asyncio.sleep(max(0.0, began + number * OFFER_SECONDS - time.monotonic()))
            building: dict[str, Any] = {}
            for topic, key, value in slice_:
                if topic not in building:
                    building[topic] = producer.create_batch()
                building[topic].append(key=key, value=value, timestamp=None, headers=HEADERS)
            partition = next(partitions)
            for topic, batch in building.items():
                await producer.send_batch(batch, topics[topic], partition=partition)


def paced(mix: Mix, each: int) -> Iterator[Sequence[Message]]:
    """Yield the events in slices of this size, for a producer with a steady rate."""
    stream = events(mix)
    while slice_ := list(islice(stream, each)):
        yield slice_
