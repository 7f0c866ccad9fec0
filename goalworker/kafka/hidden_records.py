"""Records behind an open transaction: a consumer of committed records cannot see them, so lag is 0."""

from collections.abc import Mapping

from aiokafka import TopicPartition

from goalworker import metrics


class HiddenRecords:
    """Number of hidden records by partition, and since when the last stable offset has not moved."""

    def __init__(self) -> None:
        self._since: dict[TopicPartition, tuple[int, float]] = {}

    def update(
        self, highs: Mapping[TopicPartition, int], stable: Mapping[TopicPartition, int], now: float
    ) -> dict[TopicPartition, tuple[int, float]]:
        """Return, by partition, the number of hidden records and the seconds since the same transaction hides them.

        highs must be read before stable, or records written in between would look hidden.
        """
        found: dict[TopicPartition, tuple[int, float]] = {}
        since: dict[TopicPartition, tuple[int, float]] = {}
        for partition, end in stable.items():
            records = max(highs.get(partition, end) - end, 0)
            if records:
                before = self._since.get(partition)
                since[partition] = before if before is not None and before[0] == end else (end, now)
            found[partition] = (records, now - since[partition][1] if records else 0.0)
        self._since = since
        return found

    def measure(self, highs: Mapping[TopicPartition, int], stable: Mapping[TopicPartition, int], now: float) -> None:
        """Set the metrics to what update() returns."""
        for partition, (records, seconds) in self.update(highs, stable, now).items():
            labels = (partition.topic, partition.partition)
            metrics.consumer_hidden_records.labels(*labels).set(records)
            metrics.consumer_hidden_seconds.labels(*labels).set(seconds)
