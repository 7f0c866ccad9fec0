"""The demo's events that history may keep, by their place in Kafka."""

from typing import Final, NamedTuple

from aiokafka import TopicPartition

from goalworker.demo import plans

LATE_SECONDS: Final = 2.0
"""An event sent longer than this before its contact was enrolled may be left out: HISTORY__DELAY_SECONDS allows 2.5."""


class Kept(NamedTuple):
    """An event of history, and where its record is in Kafka."""

    tenant_id: str
    contact_id: str
    source: str
    event_id: str
    topic: str
    partition: int
    offset: int

    @property
    def contact(self) -> plans.Contact:
        return (self.tenant_id, self.contact_id)


class SentEvents:
    """The acknowledged events that history may keep, and when each contact was enrolled first; times are monotonic."""

    def __init__(self) -> None:
        self._enrolled_at: dict[plans.Contact, float] = {}
        self._sent_at: dict[Kept, float] = {}
        self._dated: set[Kept] = set()

    def note(self, record: plans.PlannedRecord, partition: TopicPartition, offset: int, sent_at: float) -> None:
        """Note an acknowledged record."""
        if (concerned := record.concerned) is None:
            return
        contact = concerned.contact
        if concerned.is_start:
            self._enrolled_at[contact] = min(sent_at, self._enrolled_at.get(contact, sent_at))
            return
        kept = Kept(*contact, concerned.source, concerned.event_id, partition.topic, partition.partition, offset)
        self._sent_at[kept] = sent_at
        if record.timestamp_ms is not None:
            self._dated.add(kept)

    def of_enrolled(self) -> list[Kept]:
        """Return the events of contacts that are enrolled: no other may be kept."""
        return [event for event in self._sent_at if event.contact in self._enrolled_at]

    def must_be_kept(self, event: Kept) -> bool:
        """Say whether an event of an enrolled contact must be kept.

        One that came long before its enrollment may be left out, and so may one that its sender dated: where records
        are old, history catches up and waits for no enrollment.
        """
        return event not in self._dated and self._enrolled_at[event.contact] <= self._sent_at[event] + LATE_SECONDS
