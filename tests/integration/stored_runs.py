"""Goals, enrollments and achievements as a judgement leaves them, written without one."""

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from goalworker.postgres import connections
from tests.integration import world

TENANT, WORKFLOW = "north", "w1"
START = datetime(2026, 1, 1, tzinfo=UTC)
GOAL_TYPES = ("purchase_made", "purchase_made", "purchase_made", "tag_added", "form_submitted")
"""Of the goals 1 to 5."""

AMOUNTS = (
    "0",
    "0.00",
    "19.90",
    "100",
    "0.000000000000000001",
    "1000000000000000",
    "999999999999999.999999999999999999",
)
MINUTES = st.integers(0, 5 * 24 * 60).map(lambda minutes: timedelta(minutes=minutes))
OUTCOMES = st.lists(
    st.tuples(
        st.integers(1, 5),
        MINUTES,
        st.sampled_from(AMOUNTS),
        st.sampled_from(("EUR", "eur", "USD")),
        st.sampled_from(("p1", "p1", "p2")),
    ),
    max_size=4,
    unique_by=lambda outcome: outcome[0],
)
CONTACTS = st.sampled_from(("ann", "ann", "bob"))
RUNS = st.lists(
    st.tuples(MINUTES, CONTACTS, st.booleans(), st.booleans(), OUTCOMES, st.sets(st.integers(1, 5))), max_size=9
)


def goal_id(number: int) -> UUID:
    return UUID(int=number)


async def add_goals(
    administrator: connections.Connection, deleted: Sequence[int] = (), tenant_id: str = TENANT
) -> None:
    for number, goal_type in enumerate(GOAL_TYPES, start=1):
        created = START + timedelta(hours=number // 2)  # some at the same moment
        await administrator.execute(
            "INSERT INTO goals VALUES ($1, $2, $3, $4, $5, 1, $6, 'ann', $6, 'ann', $7, 1)",
            *(tenant_id, goal_id(number), WORKFLOW, goal_type, f"goal {number}", created),
            created if number in deleted else None,
        )


async def add_run(
    administrator: connections.Connection,
    enrollment_id: str,
    enrolled_at: datetime | None,
    *,
    tenant_id: str = TENANT,
    contact_id: str | None = None,
    converted_at: datetime | None = None,
    exited_at: datetime | None = None,
) -> None:
    contact_id = contact_id or f"c-{enrollment_id}"
    await administrator.execute(
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at, satisfied_at,"
        " converted_at, exited_at) VALUES ($1, $2, $3, $4, $5, $6, $6, $7)",
        *(tenant_id, enrollment_id, WORKFLOW, contact_id, enrolled_at, converted_at, exited_at),
    )
    if exited_at is not None:
        await administrator.execute(
            "INSERT INTO exits VALUES ($1, $2, $3, $4, $5, 'tag_added', 'any', $6, $7)",
            *(tenant_id, enrollment_id, WORKFLOW, contact_id, goal_id(4), [goal_id(4)], exited_at),
        )


async def add_achievement(
    administrator: connections.Connection,
    enrollment_id: str,
    number: int,
    achieved_at: datetime,
    *,
    tenant_id: str = TENANT,
    contact_id: str | None = None,
    enrolled_at: datetime | None = START,
    paid: tuple[str, ...] = ("19.90", "EUR"),
    is_revoked: bool = False,
) -> None:
    """Write an achievement; paid is amount, currency and, for a payment that others may share, its id."""
    goal_type = GOAL_TYPES[number - 1]
    data = {"contact_id": contact_id or f"c-{enrollment_id}"}
    if goal_type == "purchase_made":
        amount, currency, payment_id = (*paid, f"p-{enrollment_id}-{number}")[:3]
        data |= {"payment_id": payment_id, "amount": amount, "currency": currency}
    await administrator.execute(
        "INSERT INTO achievements (tenant_id, enrollment_id, goal_id, workflow_id, contact_id, goal_version, goal_type,"
        " enrolled_at, achieved_at, event_source, event_id, data, revision, revoked_at)"
        " VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8, '/shop', $9, $10, 3, $11)",
        *(tenant_id, enrollment_id, goal_id(number), WORKFLOW, data["contact_id"], goal_type, enrolled_at),
        *(achieved_at, f"ev-{enrollment_id}-{number}", json.dumps(data), achieved_at if is_revoked else None),
    )


async def write(
    administrator: connections.Connection, runs: list[Any], deleted: Collection[int], *, tracking: bool
) -> None:
    """Write RUNS for two tenants into an empty database."""
    await world.clear(administrator)
    for tenant_id in (TENANT, "south"):
        await add_goals(administrator, sorted(deleted), tenant_id)
        for number, (start, contact_id, has_start, has_exit, outcomes, revoked) in enumerate(runs):
            enrolled_at = START + start if tracking and (has_start or outcomes) else None
            began = enrolled_at or START
            live = [began + took for goal, took, *_ in outcomes if goal not in revoked]
            await add_run(
                administrator,
                f"e{number}",
                enrolled_at,
                tenant_id=tenant_id,
                contact_id=contact_id,
                converted_at=max(live, default=None),
                exited_at=began + outcomes[0][1] if outcomes and has_exit else None,
            )
            for goal, took, *paid in outcomes:
                await add_achievement(
                    administrator,
                    f"e{number}",
                    goal,
                    began + took,
                    tenant_id=tenant_id,
                    contact_id=contact_id,
                    enrolled_at=enrolled_at,
                    paid=tuple(paid),
                    is_revoked=goal in revoked,
                )
