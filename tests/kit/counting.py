"""Enrollments with many hits of one goal, to measure what judging them costs."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import zip_longest
from typing import Final
from uuid import UUID

from msgspec import Struct, structs

from goalworker.domain import facts, goals, judging
from goalworker.domain.criteria import Criteria

START: Final = datetime(2026, 5, 1, tzinfo=UTC)
GOAL_ID: Final = UUID(int=7)
DAY: Final = 86_400


class Counting(Struct, frozen=True):
    """A goal, and the data of the events that hit it; %d is the number of the event."""

    goal_type: str
    criteria: Criteria
    data: str


PAYMENT: Final = '{"payment_id":"pay-%d","amount":"50","currency":"EUR"}'
PLAIN: Final = Counting("purchase_made", Criteria(), PAYMENT)


def counting(times: int) -> Mapping[str, Counting]:
    """Return goals that take this many occurrences, by what they set."""
    total = Decimal(50 * times)
    return {
        "times": Counting("purchase_made", Criteria(times=times, within=DAY), PAYMENT),
        "total_amount": Counting("purchase_made", Criteria(currency="EUR", total_amount=total, within=DAY), PAYMENT),
        "deadline": Counting("form_submitted", Criteria(times=times, deadline=DAY), '{"submission_id":"sub-%d"}'),
        "chains": Counting("appointment_booked", Criteria(times=times, within=DAY), '{"appointment_id":"app-%d"}'),
        "alone": Counting("tag_added", Criteria(times=times, within=DAY), '{"tag_id":"vip-%d"}'),
    }


def judging_of(case: Counting, hits: int, versions: int = 1) -> Callable[[], judging.Judgement]:
    """Return a function that judges an enrollment with this many hits, of a goal that was paused and resumed often."""
    moments = [START + timedelta(seconds=number * hits / versions) for number in range(versions)]
    # Criteria of their own, as the database gives them.
    of_goal = [
        goals.GoalVersion(number, structs.replace(case.criteria), True, begins, ends)
        for number, (begins, ends) in enumerate(zip_longest(moments, moments[1:]), 1)
    ]
    goal = goals.Goal("north", GOAL_ID, "w1", case.goal_type, START, tuple(of_goal))
    enrollment = facts.Enrollment("north", "e1", "w1", "c1", START)
    found = [_hit(n, 1 + n * versions // hits, (case.data % n).encode()) for n in range(hits)]
    return partial(judging.judge, enrollment, found, goals.Workflow((goal,)))


def _hit(number: int, version: int, data: bytes) -> facts.Hit:
    trigger = facts.Trigger("/crm", f"{number:03}", START + timedelta(seconds=number, microseconds=1), data)
    # An id of its own, as a row of the database gives it: no comparison can skip it.
    return facts.Hit("north", "w1", "c1", UUID(int=GOAL_ID.int), version, trigger)
