"""The numbers of a workflow, and the list of what was achieved (contract section 5).

They are counted when somebody asks: nothing is added up ahead on the way of events, for numbers that are looked at now
and then. What took long to count is kept for a while (`Kept`).
"""

import asyncio
import base64
import time
from collections.abc import Callable, Coroutine, Hashable, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors, events, messages

SECONDS_PER_HOUR: Final = 3600
_EXACT: Final = Context(prec=128)
"""Room for every digit of a sum; the default context rounds to 28."""

# Counting a million rows takes one processor for a while; the others are for whoever else asks.
_BY_ITSELF: Final = sa.text(
    "SELECT set_config('jit', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)"
)

_ENROLLMENTS: Final = """
SELECT count(enrolled_at) AS enrolled, count(converted_at) AS converted, count(exited_at) AS exits,
    extract(epoch FROM avg(converted_at - enrolled_at))::float8 AS mean,
    extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY converted_at - enrolled_at))::float8 AS median,
    extract(epoch FROM percentile_cont(0.9) WITHIN GROUP (ORDER BY converted_at - enrolled_at))::float8 AS p90
FROM enrollments
WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id {span}
"""

# The achievements are read once, and by index from where the span begins: nothing is achieved before its enrollment.
_GOALS: Final = """
WITH live AS MATERIALIZED (
    SELECT goal_id, goal_type, enrollment_id,
        CASE WHEN goal_type = 'purchase_made' THEN upper((data ->> 'currency') COLLATE "C") END AS currency,
        CASE WHEN goal_type = 'purchase_made' THEN (data ->> 'amount')::numeric END AS amount
    FROM achievements
    WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id AND revoked_at IS NULL {span}
)
SELECT g.goal_id, g.goal_type, g.name, g.deleted_at IS NULL AS is_live, coalesce(a.achieved, 0) AS achieved, a.revenue,
    coalesce(t.enrollments, 0) AS enrollments_of_type
FROM goals g
LEFT JOIN (
    SELECT goal_id, sum(achieved)::bigint AS achieved,
        jsonb_object_agg(currency, amount::text) FILTER (WHERE currency IS NOT NULL) AS revenue
    FROM (SELECT goal_id, currency, count(*) AS achieved, sum(amount) AS amount FROM live GROUP BY 1, 2) AS by_currency
    GROUP BY goal_id
) AS a USING (goal_id)
LEFT JOIN (
    SELECT goal_type, count(*) AS enrollments FROM (SELECT DISTINCT goal_type, enrollment_id FROM live) AS of_type
    GROUP BY goal_type
) AS t USING (goal_type)
WHERE g.tenant_id = :tenant_id AND g.workflow_id = :workflow_id
ORDER BY g.created_at, g.goal_id
"""

# The spans of the two, with tracking and without; an exit stands though the conversion was taken back.
_BEGAN: Final = {"since": "enrolled_at >= :since", "until": "enrolled_at < :until"}
_ACHIEVED_BY_THESE: Final = _BEGAN | {"since": "enrolled_at >= :since AND achieved_at >= :since"}
_CAME: Final = {
    "since": "coalesce(converted_at, exited_at) >= :since",
    "until": "coalesce(converted_at, exited_at) < :until",
}
_ACHIEVED: Final = {"since": "achieved_at >= :since", "until": "achieved_at < :until"}


_KNOWN: Final = sa.text(
    " UNION ALL ".join(
        f"(SELECT 1 FROM {table} WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id LIMIT 1)"
        for table in ("goals", "workflow_settings", "workflow_states", "enrollments")
    )
    + " LIMIT 1"
)


class UnknownWorkflowError(errors.GoalworkerError):
    """A workflow has no goal, no logic, and no message that ever named it."""

    def __init__(self) -> None:
        super().__init__("Nothing is known of this workflow: it has no goal, and no message has named it")


class CursorError(errors.GoalworkerError, ValueError):
    """The cursor is none of ours."""

    def __init__(self) -> None:
        super().__init__("`cursor` must be the `next_cursor` of an answer before")


async def workflow_stats(
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    workflow_id: str,
    since: datetime | None,
    until: datetime | None,
    *,
    tracking: bool,
) -> dict[str, Any]:
    """Return `stats` of contract section 5 for the enrollments with since <= enrolled_at < until.

    Rates are percentages to one decimal, times hours to two decimals and seconds to three, percentiles interpolated.
    Without tracking the span selects by when something came of it, and total_enrolled, rates and times are None.
    """
    given = {"tenant_id": tenant_id, "workflow_id": workflow_id, "since": since, "until": until}
    await connection.execute(_BY_ITSELF)
    runs = (await _execute(connection, _ENROLLMENTS, _BEGAN if tracking else _CAME, given)).one()
    goals = (await _execute(connection, _GOALS, _ACHIEVED_BY_THESE if tracking else _ACHIEVED, given)).all()
    shown = [goal for goal in goals if goal.is_live or goal.achieved]
    enrollments = {goal.goal_type: goal.enrollments_of_type for goal in shown}
    achieved = {type_: sum(goal.achieved for goal in shown if goal.goal_type == type_) for type_ in enrollments}

    def rate(number: int) -> float | None:
        return _percentage(number, runs.enrolled) if tracking else None

    return {
        "workflow_id": workflow_id,
        "from": since,
        "to": until,
        "total_enrolled": runs.enrolled if tracking else None,
        "goals_achieved": sum(achieved.values()),
        "enrollments_converted": runs.converted,
        "conversion_rate": rate(runs.converted),
        **_times_to_goal(avg=runs.mean, median=runs.median, p90=runs.p90),
        "exits_sent": runs.exits,
        "by_goal_type": {
            type_: {"achieved": achieved[type_], "conversion_rate": rate(enrollments[type_])} for type_ in enrollments
        },
        "by_goal": [
            {
                "goal_id": goal.goal_id,
                "goal_type": goal.goal_type,
                "name": goal.name,
                "achieved": goal.achieved,
                "conversion_rate": rate(goal.achieved),
            }
            for goal in shown
        ],
        "revenue": _revenue(goal.revenue for goal in shown),
    }


async def check_known(connection: sa_async.AsyncConnection, tenant_id: str, workflow_id: str) -> None:
    """Raise UnknownWorkflowError for a workflow without any goal, logic, enrollment or workflow state."""
    given = {"tenant_id": tenant_id, "workflow_id": workflow_id}
    if (await connection.execute(_KNOWN, given)).first() is None:
        raise UnknownWorkflowError


async def _execute(
    connection: sa_async.AsyncConnection, query: str, bounds: Mapping[str, str], given: Mapping[str, Any]
) -> sa.CursorResult[Any]:
    wanted = {name: value for name, value in given.items() if value is not None}
    span = "".join(f" AND {bound}" for name, bound in bounds.items() if name in wanted)
    return await connection.execute(sa.text(query.format(span=span)), wanted)


def _percentage(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def _times_to_goal(**seconds: float | None) -> dict[str, float | None]:
    """Return each time in hours and in seconds: a goal that takes ten seconds takes 0.0 hours."""
    hours = {
        f"{name}_time_to_goal_hours": None if value is None else round(value / SECONDS_PER_HOUR, 2)
        for name, value in seconds.items()
    }
    return hours | {
        f"{name}_time_to_goal_seconds": None if value is None else round(value, 3) for name, value in seconds.items()
    }


def _revenue(by_goal: Any) -> dict[str, str]:
    total: dict[str, Decimal] = {}
    for revenue in by_goal:
        for currency, amount in (revenue or {}).items():
            total[currency] = _EXACT.add(total.get(currency, Decimal(0)), Decimal(amount))
    return {currency: events.money(total[currency]) for currency in sorted(total)}


Answer = dict[str, Any]
Make = Callable[[], Coroutine[Any, Any, Answer]]


class _Known(msgspec.Struct, frozen=True):
    answer: Answer
    fresh_until: float
    known_until: float


class Kept:
    """Keeps answers that took long; quick ones are always made anew.

    An answer is fresh for TIMES as long as it took to make. For as long again it is still given, at once, while a new
    one is being made. Who asks where none is kept waits, all for the same one.
    """

    SLOW_SECONDS: Final = 0.1
    TIMES: Final = 30.0
    # Of the four connections that a process has, unless it is set otherwise, one is always left to other requests.
    NEW_AT_ONCE: Final = 2
    AGAIN_AT_ONCE: Final = 1

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Hashable, _Known] = {}
        self._making: dict[Hashable, asyncio.Task[Answer]] = {}
        self._turns = asyncio.Semaphore(self.NEW_AT_ONCE)
        self._turns_again = asyncio.Semaphore(self.AGAIN_AT_ONCE)

    async def answer(self, key: Hashable, make: Make) -> Answer:
        """Return the kept answer for a key, or make it."""
        now = self._clock()
        self._known = {each: known for each, known in self._known.items() if now < known.known_until}
        known = self._known.get(key)
        if known is not None and now < known.fresh_until:
            return known.answer
        if key not in self._making:
            turns = self._turns if known is None else self._turns_again
            self._making[key] = asyncio.create_task(self._made(key, make, turns))
            self._making[key].add_done_callback(_seen)
        return known.answer if known is not None else await asyncio.shield(self._making[key])

    async def _made(self, key: Hashable, make: Make, turns: asyncio.Semaphore) -> Answer:
        known = None
        try:
            async with turns:
                began = self._clock()
                answer = await make()
                known = self._worth_keeping(answer, self._clock() - began)
            return answer
        finally:
            # Where it failed nothing older is given any more, so that who asks next hears of it.
            del self._making[key]
            self._known.pop(key, None)
            if known is not None:
                self._known[key] = known

    def _worth_keeping(self, answer: Answer, took: float) -> _Known | None:
        fresh_until = self._clock() + took * self.TIMES
        return _Known(answer, fresh_until, fresh_until + took * self.TIMES) if took >= self.SLOW_SECONDS else None


def _seen(made: asyncio.Task[Answer]) -> None:
    # asyncio complains of an error that nobody looked at, and it may be that nobody waits for this answer.
    if not made.cancelled():
        made.exception()


_SHOWN: Final = """
a.tenant_id, a.enrollment_id, a.workflow_id, a.contact_id, a.goal_id, a.goal_version, a.goal_type, a.enrolled_at,
a.achieved_at, a.event_source, a.event_id, a.data::text AS data, a.revision
"""

_ACHIEVEMENTS: Final = f"""
SELECT {_SHOWN} FROM achievements a
WHERE a.tenant_id = :tenant_id AND a.workflow_id = :workflow_id AND a.revoked_at IS NULL {{filters}}
ORDER BY a.achieved_at, a.enrollment_id, a.goal_id LIMIT :limit
"""

_FILTERS: Final = {
    # By way of the contact's few enrollments, each of which has an index entry.
    "contact_id": """a.enrollment_id IN (SELECT e.enrollment_id FROM enrollments e
        WHERE e.tenant_id = :tenant_id AND e.workflow_id = :workflow_id AND e.contact_id = :contact_id)""",
    "goal_id": "a.goal_id = :goal_id",
    "since": "a.achieved_at >= :since",
    "until": "a.achieved_at < :until",
    "after": "(a.achieved_at, a.enrollment_id, a.goal_id) > (:after_at, :after_enrollment, :after_goal)",
}


class _Cursor(msgspec.Struct, array_like=True):
    achieved_at: datetime
    enrollment_id: str
    goal_id: UUID


async def achievements(  # noqa: PLR0913 - the filters of the contract
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    workflow_id: str,
    *,
    cursor: str | None,
    limit: int,
    contact_id: str | None = None,
    goal_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[list[messages.Achieved], str | None]:
    """Return a page of achievements in the order of their events, and the cursor of the next one; CursorError."""
    given: dict[str, Any] = {"contact_id": contact_id, "goal_id": goal_id, "since": since, "until": until}
    given = {name: value for name, value in given.items() if value is not None}
    filters = [_FILTERS[name] for name in given]
    if cursor is not None:
        after = _opened(cursor)
        given |= {"after_at": after.achieved_at, "after_enrollment": after.enrollment_id, "after_goal": after.goal_id}
        filters.append(_FILTERS["after"])
    query = _ACHIEVEMENTS.format(filters="".join(f" AND {each}" for each in filters))
    given |= {"tenant_id": tenant_id, "workflow_id": workflow_id, "limit": limit + 1}
    rows = (await connection.execute(sa.text(query), given)).all()
    page = rows[:limit]
    more = _sealed(page[-1]) if len(rows) > limit else None
    return [_achievement(row) for row in page], more


def _achievement(row: sa.Row[Any]) -> messages.Achieved:
    run = events.Enrollment(row.tenant_id, row.enrollment_id, row.workflow_id, row.contact_id)
    trigger = events.Trigger(row.event_source, row.event_id, row.achieved_at, row.data.encode())
    achievement = events.Achievement(row.goal_id, row.goal_version, row.enrolled_at, trigger, row.revision)
    return messages.achievement_data(run, row.goal_type, achievement)


def _sealed(row: sa.Row[Any]) -> str:
    cursor = msgspec.json.encode(_Cursor(row.achieved_at, row.enrollment_id, row.goal_id))
    return base64.urlsafe_b64encode(cursor).decode().rstrip("=")


def _opened(cursor: str) -> _Cursor:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=_Cursor)
        achieved_at = place.achieved_at.astimezone(UTC)  # may be out of what a time can be
    except (ValueError, OverflowError) as error:
        raise CursorError from error
    if place.achieved_at.tzinfo is None or not events.is_text(place.enrollment_id):
        raise CursorError
    return _Cursor(achieved_at, place.enrollment_id, place.goal_id)
