"""The newest dead letters, counted by topic and reason, in bounded time."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

import aiokafka
from msgspec import Struct

from goalworker import config, metrics
from goalworker.inspection import dead_letter_reading, kafka_connection, open_letters

READ_MAX: Final = 10_000
"""Letters that are read, at most: the newest of each partition."""

Kind = tuple[str | None, str | None]
"""Original topic and reason; None for what is not on our lists, since another program wrote it."""


class Letter(Struct, frozen=True):
    """A dead letter without its payload; tenant_id is None where it may belong to several tenants, or to nobody."""

    kind: Kind
    time: datetime
    tenant_id: str | None
    described: dict[str, Any]


class Count(Struct, frozen=True):
    """Number of letters of a kind; own are those of one tenant."""

    kind: Kind
    letters: int
    own: int
    newest_at: datetime


class NewestLetters(Struct, frozen=True):
    """The newest letters of all tenants; kept counts all that the DLQ holds, is_complete says whether all were read."""

    letters: list[Letter]
    kept: int
    is_complete: bool

    def counts(self, tenant_id: str) -> list[Count]:
        """Return the number of letters of each kind, the most frequent first, with how many are a tenant's."""
        all_ = Counter(letter.kind for letter in self.letters)
        own = Counter(letter.kind for letter in self.of_tenant(tenant_id))
        newest = {letter.kind: letter.time for letter in sorted(self.letters, key=lambda letter: letter.time)}
        ordered = sorted(all_, key=lambda kind: (-all_[kind], str(kind)))
        return [Count(kind, all_[kind], own[kind], newest[kind]) for kind in ordered]

    def of_tenant(self, tenant_id: str) -> list[Letter]:
        """Return the letters of a tenant, the newest first."""
        own = [letter for letter in self.letters if letter.tenant_id == tenant_id]
        return sorted(own, key=lambda letter: letter.time, reverse=True)


async def read(
    settings: config.Settings, seconds: float, describe: dead_letter_reading.Describe = dead_letter_reading.describe
) -> NewestLetters:
    """Return the newest letters, as many as can be read in some seconds; no group's offsets change."""
    until = time.monotonic() + seconds
    letter_of, letters = _letters_of(settings, describe), list[Letter]()
    async with kafka_connection.consumer(settings) as consumer:
        starts, ends = await dead_letter_reading.bounds(settings, consumer, settings.topics.dead_letters)
        newest = dead_letter_reading.newest(starts, ends, READ_MAX)
        async with aclosing(dead_letter_reading.between(consumer, newest, ends)) as records:
            async for record in records:
                letters.append(letter_of(record))
                if is_late := time.monotonic() > until:
                    break
            else:
                is_late = False
    kept = sum(ends[partition] - start for partition, start in starts.items())
    return NewestLetters(letters, kept, newest == starts and not is_late)


def _letters_of(
    settings: config.Settings, describe: dead_letter_reading.Describe
) -> Callable[[aiokafka.ConsumerRecord], Letter]:
    owner_of = dead_letter_reading.owners_of(settings)
    topics = frozenset(settings.topics.inputs)

    def letter_of(record: aiokafka.ConsumerRecord) -> Letter:
        topic, reason = open_letters.kind_of(record)
        kind = (topic if topic in topics else None, reason if reason in metrics.REASONS else None)
        time = dead_letter_reading.time_of(record)
        return Letter(kind, time, owner_of(record), describe(record))

    return letter_of
