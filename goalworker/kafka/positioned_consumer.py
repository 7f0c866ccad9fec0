"""Consumer whose positions are kept in a database; offsets are committed for those who look at its lag only."""

import time
import uuid
from collections.abc import Collection, Mapping, Sequence

import aiokafka
from aiokafka import TopicPartition
from msgspec import Struct

from goalworker import config
from goalworker.decoding.record import FetchedRecord
from goalworker.errors import OutOfRangeError, UndecodableError
from goalworker.kafka import broker_requests
from goalworker.kafka.consumer import Consumer, Offsets


class TopicLog(Struct, frozen=True):
    """A partition's log as it is now: its first offset, its end, and its topic's id where the broker has ids."""

    begin: int
    end: int
    topic_id: uuid.UUID | None = None


class PositionedConsumer(Consumer):
    """Member of a group that fetches nothing after an assignment until it is told its positions by seek_to()."""

    def __init__(self, settings: config.Settings, topics: Collection[str]) -> None:
        super().__init__(settings, topics)
        self.needs_positions = True
        """Whether the positions must be set before records can be fetched: after an assignment, or out of range."""
        self.is_out_of_range = False

    async def fetch(self, max_records: int, timeout_ms: int) -> Mapping[TopicPartition, Sequence[FetchedRecord]]:
        """Return records as Consumer does; none while the positions are to be set."""
        try:
            fetched = await super().fetch(max_records, timeout_ms)
        except OutOfRangeError:
            self.needs_positions = self.is_out_of_range = True
            return {}
        except UndecodableError:
            if not self.needs_positions:
                raise
            return {}  # from where it was fetched, nothing is to be read
        return {} if self.needs_positions else fetched

    async def logs(self) -> dict[TopicPartition, TopicLog]:
        """Return where the logs of the assigned partitions begin and end, and their topics' ids; raises KafkaError."""
        self._must_check_logs = False  # a check that is asked for from now on is another one
        consumer, partitions = self._consumer, list(self.partitions)
        if consumer is None or not partitions:
            return {}
        ids = await broker_requests.topic_ids(consumer, {partition.topic for partition in partitions})
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        return {
            partition: TopicLog(begins[partition], ends[partition], ids.get(partition.topic))
            for partition in partitions
        }

    def seek_to(self, epoch: int, positions: Offsets) -> None:
        """Fetch from these positions on, if the epoch is still the same."""
        if self._consumer is None or epoch != self.epoch or not self._has_joined:
            return
        for partition, offset in positions.items():
            self._consumer.seek(partition, offset)
        self.committed = dict(positions)
        self._handed_over = {}
        self.needs_positions = self.is_out_of_range = False

    def skip_to(self, topic: str, partition: int, offset: int) -> None:
        """Fetch a partition from a later offset on, and all others again from behind the records that were returned.

        A fetch that ends with an error has moved the positions past records of others that it drops.
        """
        returned = {
            one: max(committed, self._handed_over.get(one, committed)) for one, committed in self.committed.items()
        }
        self.rewind({**returned, TopicPartition(topic, partition): offset})

    def end_of(self, partition: TopicPartition) -> int | None:
        """Return where a partition's log ended at the last fetch of it, None where that is not known."""
        if self._consumer is None or partition not in self.partitions:
            return None
        end: int | None = self._consumer.highwater(partition)
        return end

    async def _check_logs(self, consumer: aiokafka.AIOKafkaConsumer, fetched: Collection[TopicPartition]) -> None:
        since, self._polled_at = self._polled_at, time.monotonic()
        was_frozen = self._polled_at - since > self._settings.kafka.session_timeout_seconds
        if self._has_joined and (self._must_check_logs or was_frozen):
            self._must_check_logs = False
            self.needs_positions = True

    def begin_epoch(self) -> None:
        """Begin an epoch, in which the stored positions have to be found first."""
        super().begin_epoch()
        self.needs_positions = True
