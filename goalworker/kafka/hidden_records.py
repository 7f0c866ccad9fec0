"""Records hidden by somebody's open transaction: a reader of committed records cannot see them, so lag is 0."""

from collections.abc import Mapping

from aiokafka import TopicPartition

from goalworker import metrics


class HiddenRecords:
    """Tracks per partition how many records are hidden and since when the last stable offset has not moved."""

    def __init__(self) -> None:
        self._since: dict[TopicPartition, tuple[int, float]] = {}

    def look(
        self, highs: Mapping[TopicPartition, int], stable: Mapping[TopicPartition, int], now: float
    ) -> dict[TopicPartition, tuple[int, float]]:
        """Return by partition the records hidden and for how many seconds the same transaction has hidden them.

        highs must be older than stable: the other way round, records written in between would look hidden.
        """
        found: dict[TopicPartition, tuple[int, float]] = {}
        since: dict[TopicPartition, tuple[int, float]] = {}
        for partition, end in stable.items():
            records = max(highs.get(partition, end) - end, 0)
            if records:
                known = self._since.get(partition)
                since[partition] = known if known is not None and known[0] == end else (end, now)
            found[partition] = (records, now - since[partition][1] if records else 0.0)
        self._since = since
        return found

    def measure(self, highs: Mapping[TopicPartition, int], stable: Mapping[TopicPartition, int], now: float) -> None:
        """Show in the metrics what look() returns."""
        for partition, (records, seconds) in self.look(highs, stable, now).items():
            labels = (partition.topic, partition.partition)
            metrics.consumer_hidden_records.labels(*labels).set(records)
            metrics.consumer_hidden_seconds.labels(*labels).set(seconds)
