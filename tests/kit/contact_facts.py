"""The facts of contacts in small worlds, as the database would hold them after every message."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from goalworker.domain import events, facts
from goalworker.domain.explanations import ContactFacts, Coverage, Run
from goalworker.goal_index import index
from tests.kit.choices import at
from tests.kit.worlds import World

ASKED_AT: Final = datetime.fromisoformat("2026-02-01T00:00:00Z")
COMPLETE: Final = Coverage(at(-10), at(-10), ASKED_AT, complete=True)


def of_world(
    world: World,
    runs: Mapping[tuple[str, str], Run],
    hits: Sequence[facts.Hit],
    coverage: Coverage = COMPLETE,
    *,
    tracked: bool = True,
) -> list[ContactFacts]:
    """Return the facts of each contact in each workflow; runs are by (tenant_id, enrollment_id)."""
    goal_index = index.Index()
    goal_index.replace(world.goals, world.logics, revision=1)
    wanted = {(goal.tenant_id, goal.workflow_id, contact) for goal in world.goals for contact in _contacts(world)}
    return [
        ContactFacts(
            *whose,
            goal_index.workflow(*whose[:2]),
            [run for run in runs.values() if _whose(run.enrollment) == whose],
            _of_contact(world, whose, events.GoalData),
            [hit for hit in hits if _whose(hit) == whose],
            [facts.reversal_of(event) for event in _of_contact(world, whose, events.ReversalData)],
            _states(world, whose),
            coverage,
            ASKED_AT,
            tracked,
        )
        for whose in sorted(wanted)
    ]


def _contacts(world: World) -> set[str]:
    return {
        event.data.contact_id
        for event in world.messages
        if isinstance(event.data, events.GoalData | events.EnrollmentChanged)
    }


def _whose(of: facts.Hit | facts.Enrollment) -> tuple[str, str, str]:
    return (of.tenant_id, of.workflow_id, of.contact_id)


def _of_contact(world: World, whose: tuple[str, str, str], kind: object) -> list[events.Event]:
    found = {
        (event.source, event.id): event
        for event in reversed(world.messages)
        if event.tenant_id == whose[0]
        and isinstance(event.data, kind)  # type: ignore[arg-type]
        and getattr(event.data, "contact_id", None) == whose[2]
    }
    return sorted(found.values(), key=lambda event: (event.time, event.source, event.id))


def _states(world: World, whose: tuple[str, str, str]) -> list[facts.WorkflowState]:
    states: dict[datetime, bool] = {}
    for event in world.messages:
        if isinstance(event.data, events.WorkflowChanged) and (event.tenant_id, event.data.workflow_id) == whose[:2]:
            states[event.time] = states.get(event.time, True) and event.type == events.WORKFLOW_ACTIVATED
    return [facts.WorkflowState(*state) for state in sorted(states.items())]
