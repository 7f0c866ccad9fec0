"""Sizes of our largest messages, and the topics that would refuse them."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from goalworker import config
from goalworker.config import groups
from goalworker.domain import events, facts, ids, messages
from goalworker.domain.criteria import (
    CORRELATIONS,
    DURATIONS,
    ID_FIELDS,
    IDS_MAX,
    KEEP,
    Criteria,
    criteria_to_json,
    settings_of,
)
from goalworker.domain.text import AMOUNT_FRACTION_DIGITS_MAX, AMOUNT_MAX, TEXT_BYTES_MAX
from goalworker.kafka import producer
from goalworker.pipeline import outbox

# The text that becomes longest in JSON, two bytes for each of its own, and when percent-encoded, three for each.
LONGEST_TEXT: Final = '"' * TEXT_BYTES_MAX
# An exit also lists achieved goals that were deleted since, which do not count towards the maximum.
_ACHIEVED_GOALS: Final = 100
_TRACE: Final = "x" * 512
_NUMBER: Final = 2**31 - 1
_MOMENT: Final = datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
_GOAL: Final = UUID(int=0)
_AMOUNT: Final = Decimal(f"{AMOUNT_MAX}.{'0' * AMOUNT_FRACTION_DIGITS_MAX}")
_LONGEST_CRITERIA: Final = {
    **dict.fromkeys(ID_FIELDS, (LONGEST_TEXT,) * IDS_MAX),
    "min_amount": _AMOUNT,
    "currency": "EUR",
    "times": 1_000,
    "total_amount": _AMOUNT,
    **dict.fromkeys(DURATIONS, 365 * 86_400 - 1),
    "reversals": KEEP,
    "correlate_by": max(CORRELATIONS, key=len),
}

_ENROLLMENT: Final = facts.Enrollment(
    LONGEST_TEXT, ids.contact_enrollment_id(LONGEST_TEXT, LONGEST_TEXT), LONGEST_TEXT, LONGEST_TEXT, _MOMENT, _MOMENT
)


class TooSmall(Struct, frozen=True):
    """A topic that would refuse our largest message to it; sizes in bytes."""

    topic: str
    limit: int
    needed: int

    def __str__(self) -> str:
        return (
            f"{self.topic} takes messages of {self.limit} bytes at most, and the largest that may be sent to it has "
            f"{self.needed}: refused messages wait in the outbox. Set its max.message.bytes to at least {self.needed}"
        )


def too_small(settings: config.Settings, limits: Mapping[str, int]) -> list[TooSmall]:
    """Return which topics out would refuse their largest message; limits are max.message.bytes where it is known."""
    needed = largest(settings.goals.max_per_workflow)
    topics = settings.topics.model_dump()
    found = [TooSmall(topics[name], limits.get(topics[name], size), size) for name, size in needed.items()]
    return [topic for topic in found if topic.limit < topic.needed]


@cache
def largest(max_goals: int = groups.Goals().max_per_workflow) -> Mapping[str, int]:
    """Return the size in bytes of the largest message to each topic, by its logical name, alone in its batch."""
    sizes: dict[str, int] = {}
    for message in _largest_messages(max_goals):
        size = producer.batch_size(outbox.record_of(message, message.topic))
        sizes[message.topic] = max(size, sizes.get(message.topic, 0))
    return sizes


def _largest_messages(max_goals: int) -> Iterable[messages.Message]:
    trigger = facts.trigger_of(
        events.Event(LONGEST_TEXT, LONGEST_TEXT, LONGEST_TEXT, "payment.completed", _MOMENT, _payment(), _TRACE, _TRACE)
    )
    longest_type = max(events.GOAL_TYPES, key=len)
    achievement = facts.Achievement(_GOAL, _NUMBER, _MOMENT, trigger, _NUMBER)
    yield messages.achieved(_ENROLLMENT, "purchase_made", achievement)
    yield messages.revoked(_ENROLLMENT, longest_type, achievement, "superseded", _MOMENT)
    achieved = (_GOAL,) * max(max_goals, _ACHIEVED_GOALS)
    yield messages.exit_goal(_ENROLLMENT, longest_type, facts.Exit(_GOAL, "any", _MOMENT, achieved, _TRACE, _TRACE))
    for goal_type in events.GOAL_TYPES:
        row = events.GOAL_TYPE_TABLE[goal_type]
        fields = (*row.criteria, *settings_of(row))
        criteria: dict[str, Any] = {name: _LONGEST_CRITERIA.get(name, LONGEST_TEXT) for name in fields}
        description = {
            "workflow_id": LONGEST_TEXT,
            "goal_type": goal_type,
            "criteria": criteria_to_json(goal_type, Criteria(**criteria)),
            "is_active": False,
        }
        yield messages.configured(LONGEST_TEXT, _GOAL, _NUMBER, "created", _MOMENT, description)
    yield messages.lifecycle(events.ENROLLMENT_STARTED, _ENROLLMENT, _MOMENT)


def _payment() -> events.PaymentCompleted:
    products = (LONGEST_TEXT,) * events.PRODUCT_IDS_MAX
    return events.PaymentCompleted(
        LONGEST_TEXT, LONGEST_TEXT, _AMOUNT, "EUR", products, correlation_id=LONGEST_TEXT, test=True
    )
