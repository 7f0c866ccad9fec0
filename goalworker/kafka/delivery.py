"""Records to deliver, and the outcome of each: pending, acknowledged, or refused by its topic."""

from collections.abc import Iterable, Sequence
from typing import Final

from aiokafka import errors as kafka_errors
from msgspec import Struct

from goalworker.kafka.producer import batch_size
from goalworker.kafka.records import Record

TOO_LARGE: Final = "larger than max.message.bytes"


class Refusal(Struct, frozen=True):
    """Reason why a topic never accepts a record; size and limit are in bytes, without a limit if it is unknown."""

    error: kafka_errors.KafkaError
    size: int
    limit: int | None = None

    @property
    def reason(self) -> str:
        """The reason in a few words."""
        match self.error:
            case kafka_errors.MessageSizeTooLargeError() | kafka_errors.RecordListTooLargeError():
                return TOO_LARGE
            case kafka_errors.TopicAuthorizationFailedError():
                return "no right to WRITE"
            case _:
                return str(self.error).partition("\n")[0]


class RefusedBatch(Struct, frozen=True):
    """The numbers of records that the broker refused together, and its error."""

    numbers: Sequence[int]
    error: kafka_errors.KafkaError


class Delivery:
    """Records to deliver, by number.

    A retry sends the pending records only: those acknowledged by a failed attempt stay acknowledged.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.pending: dict[int, Record] = dict(enumerate(records))
        self.acknowledged: list[int] = []
        self.refused: dict[int, Refusal] = {}

    @property
    def total(self) -> int:
        """The number of its records, whatever their outcome."""
        return len(self.pending) + len(self.acknowledged) + len(self.refused)

    def replace(self, number: int, record: Record) -> None:
        """Replace a refused record by another one, which is pending."""
        del self.refused[number]
        self.pending[number] = record

    def acknowledge(self, numbers: Iterable[int]) -> None:
        """Record that the broker has acknowledged records."""
        for number in numbers:
            if self.pending.pop(number, None) is not None:
                self.acknowledged.append(number)

    def refuse(self, number: int, error: kafka_errors.KafkaError, limit: int | None = None) -> None:
        """Record that the topic refuses a record."""
        record = self.pending.pop(number)
        self.refused[number] = Refusal(error, batch_size(record), limit)
