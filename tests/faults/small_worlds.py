"""Small worlds among the traffic: goals with a past, reversals, pauses and counts, judged by the naive judge."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from msgspec import structs

from goalworker.domain import events, goals
from tests.faults import outcomes
from tests.faults.sending import Sending
from tests.kit import goal_history, messages_in, naive_judge, world_messages, worlds
from tests.kit.naive import walk

AGO: Final = timedelta(hours=1)
TESTED_SHARE: Final = 0.3
_GOALS_MAX: Final = 16
_SEEDS_APART: Final = 1_000_000


def drawn(number: int, seed: int) -> list[worlds.World]:
    """Draw worlds of the last hour, each with tenants and goals of its own."""
    whole_seconds = timedelta(seconds=(datetime.now(UTC) - AGO - worlds.at(0)) // timedelta(seconds=1))
    return [
        _own(world_messages.world(worlds.seeded(seed * _SEEDS_APART + each)), each, whole_seconds)
        for each in range(number)
    ]


async def install(database_url: str, drawn_worlds: Iterable[worlds.World]) -> None:
    """Write the goals and logics of worlds, before any worker starts."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            for world in drawn_worlds:
                await goal_history.write(connection, world.goals, world.logics)
    finally:
        await connection.close()


def plan(traffic: Sending, world: worlds.World) -> None:
    """Plan the messages of a world, and a test that has no effect beside some."""
    for message in world.messages:
        traffic.record(_record(message), _fact(world, message))
        if isinstance(message.data, _TESTED) and traffic.chance.random() < TESTED_SHARE:
            other = structs.replace(message, id=f"test-{message.id}", time=traffic.chance.choice(world.messages).time)
            traffic.record(_record(other, test=True))
    expect(traffic.expected, world)


_TESTED: Final = (
    *(row.data for row in events.GOAL_TYPE_TABLE.values()),
    *events.REVERSAL_DATA.values(),
)


# --- a world of its own ---


def _own(world: worlds.World, number: int, later: timedelta) -> worlds.World:
    return worlds.World(
        tuple(_own_goal(goal, number, later) for goal in world.goals),
        {
            (_tenant(tenant_id, number), workflow_id): tuple(
                structs.replace(logic, active_from=logic.active_from + later) for logic in logics
            )
            for (tenant_id, workflow_id), logics in world.logics.items()
        },
        tuple(
            structs.replace(message, tenant_id=_tenant(message.tenant_id, number), time=message.time + later)
            for message in world.messages
        ),
    )


def _tenant(tenant_id: str, number: int) -> str:
    return f"{tenant_id}-{number}"


def _own_goal(goal: goals.Goal, number: int, later: timedelta) -> goals.Goal:
    return structs.replace(
        goal,
        tenant_id=_tenant(goal.tenant_id, number),
        goal_id=UUID(int=number * _GOALS_MAX + goal.goal_id.int),
        created_at=goal.created_at + later,
        versions=tuple(_later(version, later) for version in goal.versions),
    )


def _later(version: goals.GoalVersion, later: timedelta) -> goals.GoalVersion:
    until = None if version.active_to is None else version.active_to + later
    return structs.replace(version, active_from=version.active_from + later, active_to=until)


# --- records ---


def _record(message: events.Event, **others: object) -> messages_in.Record:
    built = msgspec.to_builtins(message.data)
    data = {name: value for name, value in built.items() if value is not None} | others
    envelope = {"id": message.id, "source": message.source, "tenantid": message.tenant_id}
    return messages_in.event(message.type, data, message.time, **envelope)


def _fact(world: worlds.World, message: events.Event) -> outcomes.Fact | None:
    """Return the fact that a message leaves, but for states, of which a workflow has several."""
    match message.data:
        case events.EnrollmentChanged(enrollment_id=enrollment_id):
            kind = message.type.rpartition(".")[2]
            return outcomes.Fact(kind, message.tenant_id, enrollment_id, message.time)
        case events.WorkflowChanged():
            return None
    if message.type in events.REVERSAL_TYPES:
        return outcomes.Fact("reversal", message.tenant_id, message.id, message.time)
    is_hit = any(naive_judge.hits(message, goal) for goal in world.goals)
    return outcomes.Fact("hit", message.tenant_id, message.id, message.time) if is_hit else None


# --- outcomes ---


def expect(expected: outcomes.Expected, world: worlds.World) -> None:
    """Expect what the naive judge says of a world, and what may come of some of its messages for a while."""
    for enrolled, answer in naive_judge.everything(world.goals, world.logics, world.messages).items():
        key = (enrolled.tenant_id, enrolled.enrollment_id)
        expected.achieved |= {(*key, goal_id): achieved for goal_id, achieved in answer.achieved.items()}
        expected.payments |= {
            (*key, goal_id, payment_id): payment
            for goal_id, by_payment in answer.payments.items()
            for payment_id, payment in by_payment.items()
        }
        if answer.converted_at is not None:
            expected.converted[key] = answer.converted_at
        if answer.satisfied is not None:
            expected.satisfied[key] = answer.satisfied.at.time
        own = _Own(world, enrolled)
        expected.may_be_revoked |= {(*key, goal.goal_id): own.reasons() for goal in own.goals}
        if answer.satisfied is not None and not own.ends:
            (expected.waiting if answer.exit_waits else expected.exits).add(key)
        elif own.may_exit():
            expected.may_exit.add(key)


class _Own:
    """Facts about one enrollment of a world, and what some of its messages alone may lead to."""

    def __init__(self, world: worlds.World, enrolled: naive_judge.Enrolled) -> None:
        of_tenant = [event for event in world.messages if event.tenant_id == enrolled.tenant_id]
        about = [event for event in of_tenant if getattr(event.data, "enrollment_id", "") == enrolled.enrollment_id]
        self.goals = [goal for goal in world.goals if (goal.tenant_id, goal.workflow_id) == _workflow_key(enrolled)]
        self.workflow = goals.Workflow(tuple(self.goals), world.logics.get(_workflow_key(enrolled), ()))
        self.starts = [event.time for event in about if event.type == events.ENROLLMENT_STARTED]
        self.ends = [event.time for event in about if event.type == events.ENROLLMENT_ENDED]
        happened = [event for event in of_tenant if getattr(event.data, "contact_id", "") == enrolled.contact_id]
        self.reversals = [event for event in happened if event.type in events.REVERSAL_TYPES]
        self.hits = [event for event in happened if any(naive_judge.hits(event, goal) for goal in self.goals)]

    def reasons(self) -> frozenset[str]:
        """Return the possible reasons of a revocation, in whatever order the messages are read."""
        causes = {"superseded": True, "after_end": bool(self.ends), "reversed": bool(self.reversals)}
        return frozenset(reason for reason, is_possible in causes.items() if is_possible)

    def may_exit(self) -> bool:
        """Say whether some messages alone may satisfy the workflow: a hit after a start, where logic is not `never`."""
        began = min(self.starts, default=None)
        return began is not None and any(
            event.time >= began.replace(microsecond=0) and walk.logic(self.workflow, event.time) != "never"
            for event in self.hits
        )


def _workflow_key(enrolled: naive_judge.Enrolled) -> tuple[str, str]:
    return (enrolled.tenant_id, enrolled.workflow_id)
