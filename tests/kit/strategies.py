"""Small worlds for Hypothesis: those of worlds.py and world_messages.py, shrunk towards the simplest choices."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, TypeVar

from hypothesis import strategies as st

from goalworker.domain import events, facts, goals
from goalworker.domain.criteria import Criteria
from tests.kit import world_messages
from tests.kit import worlds as small
from tests.kit.worlds import CONTACTS, ENROLLMENTS, TENANTS, TICKS, WORKFLOWS, Source, World, at

__all__ = ["CONTACTS", "ENROLLMENTS", "TENANTS", "TICKS", "WORKFLOWS", "World", "at"]

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[Any]], Any]

ticks: Final = st.integers(0, TICKS)
moments: Final = ticks.map(at)


@st.composite
def drawn(draw: Draw, make: Callable[[Source], T]) -> T:
    """Draw what a function makes of a source of choices."""
    return make(Source(lambda number: int(draw(_below(number)))))


@cache
def _below(number: int) -> st.SearchStrategy[int]:
    return st.integers(0, number - 1)


@cache
def mostly(values: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Draw the first value more often than all the others together."""
    return st.sampled_from((*[values[0]] * 3 * len(values), *values[1:]))


def goal_types() -> st.SearchStrategy[tuple[str, ...]]:
    """Draw the one or two goal types of a world; few, so that events and goals meet."""
    return drawn(small.goal_types)


@cache
def criteria(goal_type: str) -> st.SearchStrategy[Criteria]:
    """Draw normalised criteria of a goal type."""
    return drawn(lambda source: small.criteria(source, goal_type))


@cache
def goal_data(goal_type: str, contact_id: str) -> st.SearchStrategy[events.GoalData]:
    """Draw the `data` of an event that goals of a type look at."""
    return drawn(lambda source: world_messages.goal_data(source, goal_type, contact_id))


@cache
def versions(goal_type: str) -> st.SearchStrategy[tuple[goals.GoalVersion, ...]]:
    """Draw a goal's life: created before everything or midway, changed, paused, deleted."""
    return drawn(lambda source: small.versions(source, goal_type))


@cache
def goal_sets(
    types: tuple[str, ...],
    tenants: tuple[str, ...] = TENANTS,
    workflows: tuple[str, ...] = WORKFLOWS,
    min_size: int = 1,
) -> st.SearchStrategy[tuple[goals.Goal, ...]]:
    """Draw goals, in no order of their ids."""
    return drawn(lambda source: small.goal_sets(source, types, tenants, workflows, min_size))


@cache
def logic_versions() -> st.SearchStrategy[tuple[goals.LogicVersion, ...]]:
    """Draw the logics that a workflow had, oldest first."""
    return drawn(small.logic_versions)


@cache
def logic_maps(
    tenants: tuple[str, ...] = TENANTS, workflows: tuple[str, ...] = WORKFLOWS
) -> st.SearchStrategy[dict[tuple[str, str], tuple[goals.LogicVersion, ...]]]:
    """Draw logics by (tenant, workflow); some workflows never had one set."""
    return drawn(lambda source: small.logic_maps(source, tenants, workflows))


@cache
def workflow_states() -> st.SearchStrategy[tuple[facts.WorkflowState, ...]]:
    """Draw the states of a workflow as they are kept: one a moment, by time."""
    return st.dictionaries(moments, st.booleans(), max_size=3).map(
        lambda states: tuple(facts.WorkflowState(since, active) for since, active in sorted(states.items()))
    )


@cache
def contact_events(
    types: tuple[str, ...],
    tenants: tuple[str, ...] = TENANTS,
    contacts: tuple[str, ...] = CONTACTS,
    min_size: int = 0,
) -> st.SearchStrategy[tuple[events.Event, ...]]:
    """Draw events of the five goal topics, each with an identity of its own."""
    return drawn(lambda source: world_messages.contact_events(source, types, tenants, contacts, min_size))


@cache
def worlds(tenants: tuple[str, ...] = TENANTS) -> st.SearchStrategy[World]:
    """Draw a whole small world; its messages stand in no order that matters."""
    return drawn(lambda source: world_messages.world(source, tenants))


@st.composite
def deliveries(draw: Draw, messages: Sequence[events.Event]) -> list[list[events.Event]]:
    """Draw a way in which messages may arrive: in any order, some more than once, in batches of any size."""
    again = draw(st.lists(st.sampled_from(messages), max_size=4)) if messages else []
    arriving = draw(st.permutations([*messages, *again]))
    cuts = sorted(draw(st.sets(st.integers(0, len(arriving)), min_size=min(3, len(arriving)), max_size=6)))
    return [list(arriving[start:end]) for start, end in zip([0, *cuts], [*cuts, len(arriving)], strict=True)]
