"""Redrive: send each dead letter again once, whatever earlier selections sent (contract section 6)."""

import asyncio
import time
from typing import Final

import aiokafka
from aiokafka import errors as kafka_errors

from goalworker import config, errors, logs
from goalworker.admin import findings
from goalworker.inspection import dead_letter_reading, kafka_connection, open_letters
from goalworker.kafka import broker_errors, clients
from goalworker.kafka.records import Record
from goalworker.kafka.sender import Sender

log = logs.get(__name__)

# Records per send, at most. A lower rate is divided into this many sends per second.
SEND_RECORDS_MAX: Final = 500
SENDS_PER_SECOND: Final = 10

# The cluster refuses an idempotent producer that may not write to any topic.
_DENIED: Final = (kafka_errors.TopicAuthorizationFailedError, kafka_errors.ClusterAuthorizationFailedError)


async def count(settings: config.Settings, selection: dead_letter_reading.Selection) -> open_letters.Counts:
    """Return how many letters run() would send, by original topic and reason."""
    preview = await open_letters.preview(settings, selection)
    _warn_of_expiry(settings, preview.expiring)
    return preview.counts


async def run(
    settings: config.Settings, selection: dead_letter_reading.Selection, rate_per_second: int
) -> open_letters.Counts:
    """Send the selected letters that were not sent yet; return how many by original topic and reason."""
    ongoing = await open_letters.begin(settings, selection)
    sender = Sender(settings)
    try:
        async with kafka_connection.consumer(settings, open_letters.group_id(settings)) as consumer:
            sending = _Sending(ongoing, sender, consumer, _Pace(rate_per_second))
            async for record in dead_letter_reading.between(consumer, *await open_letters.bounds(settings, consumer)):
                await sending.add(record)
                if ongoing.is_complete:
                    break
            await sending.flush()
    finally:
        await sender.stop()
    _warn_of_expiry(settings, ongoing.expiring)
    return ongoing.counts


def _warn_of_expiry(settings: config.Settings, expiring: int) -> None:
    if expiring:
        topic = settings.topics.redrive
        log.warning("redriven_records_may_expire", topic=topic, records=expiring, remedy="retention.ms=-1")


class _Pace:
    """Rate limit for sends, in records per second."""

    def __init__(self, rate_per_second: int) -> None:
        self._rate_per_second = rate_per_second
        self._next_at = 0.0
        self.records_at_once = max(1, min(SEND_RECORDS_MAX, rate_per_second // SENDS_PER_SECOND))

    async def wait(self, records: int) -> None:
        """Wait until this number of records may be sent."""
        await asyncio.sleep(max(0.0, self._next_at - time.monotonic()))
        self._next_at = time.monotonic() + records / self._rate_per_second


class _Sending:
    """Paced delivery of the letters of one pass; floors are committed after each send."""

    def __init__(
        self, ongoing: open_letters.OpenLetters, sender: Sender, consumer: aiokafka.AIOKafkaConsumer, pace: _Pace
    ) -> None:
        self._ongoing = ongoing
        self._sender = sender
        self._consumer = consumer
        self._pace = pace
        self._due: dict[str, Record] = {}

    async def add(self, record: aiokafka.ConsumerRecord) -> None:
        """Take a letter, and send the due ones once they are as many as the pace sends at once."""
        if (copy := self._ongoing.take(record)) is not None:
            self._due[f"{record.partition}:{record.offset}"] = copy
        if len(self._due) >= self._pace.records_at_once:
            await self.flush()

    async def flush(self) -> None:
        """Send the due letters, and commit the floors."""
        if self._due:
            await self._pace.wait(len(self._due))
            try:
                await self._sender.send(self._due.values())
            except (broker_errors.NotAcknowledgedError, kafka_errors.KafkaError) as error:
                raise self._refusal(error) from error
            self._due.clear()
        if self._ongoing.floors:
            # After the acknowledgement: after a crash between them, the letters are only read again.
            async with asyncio.timeout(clients.COMMIT_TIMEOUT_SECONDS):
                await self._consumer.commit(self._ongoing.floors)
            self._ongoing.floors = {}

    def _refusal(self, error: Exception) -> errors.GoalworkerError:
        is_denied = isinstance(error, _DENIED)
        return (errors.RefusedError if is_denied else errors.DependencyError)(
            f"the dead letters from {next(iter(self._due))} on were not redriven: "
            f"{'allow WRITE on the topic to this user' if is_denied else findings.first_line(error)}. "
            f"They are still in the DLQ: when {self._ongoing.topic} takes them, run it again"
        )
