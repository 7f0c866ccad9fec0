"""Small worlds for Hypothesis: few names, few moments, many collisions and ties.

The first name of a kind is drawn more often than the others, so that most worlds have something happen in them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final
from uuid import UUID

from hypothesis import strategies as st

from goalworker.domain import events, facts, goals
from goalworker.domain.criteria import Criteria
from tests.kit import naive_judge

Draw = Callable[[st.SearchStrategy[Any]], Any]

TENANTS: Final = ("north", "south")
WORKFLOWS: Final = ("w1", "w2")
CONTACTS: Final = ("c1", "c2")
ENROLLMENTS: Final[Mapping[str, tuple[str, str]]] = {
    "e1": ("w1", "c1"),
    "e2": ("w1", "c1"),  # re-entry
    "e3": ("w1", "c2"),
    "e4": ("w2", "c1"),
}
"""Workflow and contact by enrollment id; every tenant has the same, so that a leak shows."""

TAG_IDS: Final = ("tag-1", "tag-2")
TAG_NAMES: Final = ("Customer", " customer ", "\uff23ustomer", "Straße", "STRASSE", "other")
PRODUCTS: Final = ("p1", "p2")
AMOUNTS: Final = tuple(map(Decimal, ("0", "99.99", "100", "100.00", "100.000000000000000001", "1000000000000000")))
CURRENCIES: Final = ("EUR", "eur", "USD")
SOURCES: Final = ("/Z", "/a", "/\uff5e", "/\U0001f600")
"""In code point order, which is not the order of UTF-16 nor that of a dictionary."""

_START: Final = datetime(2026, 1, 1, 11, 59, 59, 999_995, tzinfo=UTC)
TICKS: Final = 12


def at(tick: int) -> datetime:
    """Return a moment of the small worlds: one tick is a microsecond, and the fifth is a whole second."""
    return _START + timedelta(microseconds=tick)


ticks: Final = st.integers(0, TICKS)
moments: Final = ticks.map(at)


def goal_types() -> st.SearchStrategy[tuple[str, ...]]:
    """Draw the one or two goal types of a world; few, so that events and goals meet."""
    return st.lists(st.sampled_from(events.GOAL_TYPES), min_size=1, max_size=2, unique=True).map(tuple)


def criteria(goal_type: str) -> st.SearchStrategy[Criteria]:
    """Draw normalised criteria of a goal type."""
    return _CRITERIA[goal_type]


@cache
def goal_data(goal_type: str, contact_id: str) -> st.SearchStrategy[events.GoalData]:
    """Draw the `data` of an event that goals of a type look at."""
    return _GOAL_DATA[goal_type](contact_id)


@cache
def mostly(values: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Draw the first value more often than all the others together."""
    return st.sampled_from((*[values[0]] * 3 * len(values), *values[1:]))


@cache
def _some(values: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    return st.none() | mostly(values)


def _ids(values: tuple[str, ...]) -> st.SearchStrategy[str | tuple[str, ...]]:
    """Draw a criterion of ids: mostly the first, sometimes another, sometimes any of them."""
    return st.sampled_from((*values[:1] * 4, *values[1:], values, values))


def _tags(ids: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, str | None]]:
    names = st.sampled_from(TAG_NAMES)
    return st.one_of(st.tuples(ids, st.none()), st.tuples(st.none(), names), st.tuples(ids, names))


_CRITERIA: Final[Mapping[str, st.SearchStrategy[Criteria]]] = {
    "tag_added": _tags(_ids(TAG_IDS)).map(lambda tag: Criteria(tag_id=tag[0], tag_name=tag[1])),
    "purchase_made": st.builds(
        Criteria,
        product_id=st.none() | _ids(PRODUCTS),
        min_amount=_some(tuple(amount for amount in AMOUNTS if str(amount) != "100.00")),  # not normalised
        currency=_some(("EUR", "USD")),
    ),
    "appointment_booked": st.builds(
        Criteria, calendar_id=st.none() | _ids(("cal-1", "cal-2")), service_id=st.none() | _ids(("s1", "s2"))
    ),
    "form_submitted": st.builds(Criteria, form_id=_ids(("f1", "f2"))),
    "pipeline_stage_reached": st.builds(Criteria, pipeline_id=_ids(("pl-1", "pl-2")), stage_id=_ids(("st-1", "st-2"))),
}

_GOAL_DATA: Final[Mapping[str, Callable[[str], st.SearchStrategy[events.GoalData]]]] = {
    "tag_added": lambda contact: _tags(mostly(TAG_IDS)).map(lambda tag: events.TagAdded(contact, *tag)),
    "purchase_made": lambda contact: st.builds(
        events.PaymentCompleted,
        st.just(contact),
        st.just("pay-1"),
        st.sampled_from(AMOUNTS),
        st.sampled_from(CURRENCIES),
        st.none() | st.lists(mostly(PRODUCTS), max_size=3).map(tuple),
    ),
    "appointment_booked": lambda contact: st.builds(
        events.AppointmentBooked, st.just(contact), st.just("app-1"), _some(("cal-1", "cal-2")), _some(("s1", "s2"))
    ),
    "form_submitted": lambda contact: st.builds(
        events.FormSubmitted, st.just(contact), mostly(("f1", "f2")), _some(("sub-1",))
    ),
    "pipeline_stage_reached": lambda contact: st.builds(
        events.StageChanged, st.just(contact), mostly(("pl-1", "pl-2")), mostly(("st-1", "st-2"))
    ),
}


@cache
@st.composite
def versions(draw: Draw, goal_type: str) -> tuple[goals.GoalVersion, ...]:
    """Draw a goal's life: created before everything or midway, changed, paused, deleted."""
    created = draw(st.sampled_from((-1, -1, -1, -1, 3, 6)))
    changed = sorted(draw(st.just(()) | st.sets(st.integers(created + 1, TICKS), max_size=2)))
    deleted = draw(st.none() | st.none() | st.integers(max([created, *changed, 5]) + 1, TICKS + 2))
    starts = [created, *changed]
    ends = [*changed, deleted]
    return tuple(
        goals.GoalVersion(
            number,
            draw(criteria(goal_type)),
            draw(st.sampled_from((True, True, True, False))),
            at(start),
            None if end is None else at(end),
        )
        for number, (start, end) in enumerate(zip(starts, ends, strict=True), start=1)
    )


@cache
@st.composite
def goal_sets(
    draw: Draw,
    types: tuple[str, ...],
    tenants: tuple[str, ...] = TENANTS,
    workflows: tuple[str, ...] = WORKFLOWS,
    min_size: int = 1,
) -> tuple[goals.Goal, ...]:
    """Draw goals, in no order of their ids."""
    numbers = draw(st.lists(st.integers(1, 9), min_size=min_size, max_size=5, unique=True))
    identity = st.tuples(mostly(tenants), mostly(workflows), mostly(types))
    return tuple(_goal(draw, UUID(int=number), *draw(identity)) for number in numbers)


def _goal(draw: Draw, goal_id: UUID, tenant_id: str, workflow_id: str, goal_type: str) -> goals.Goal:
    life = draw(versions(goal_type))
    return goals.Goal(tenant_id, goal_id, workflow_id, goal_type, life[0].active_from, life)


@cache
@st.composite
def logic_versions(draw: Draw) -> tuple[goals.LogicVersion, ...]:
    """Draw the logics that a workflow had, oldest first."""
    first = draw(st.sampled_from((("all",), ("all",), ("never",), ("any",), ())))
    later = draw(st.dictionaries(ticks, st.sampled_from(goals.LOGICS), max_size=2))
    return tuple(
        goals.LogicVersion(logic, at(tick))
        for tick, logic in [*((-1, logic) for logic in first), *sorted(later.items())]
    )


@cache
def logic_maps(
    tenants: tuple[str, ...] = TENANTS, workflows: tuple[str, ...] = WORKFLOWS
) -> st.SearchStrategy[dict[tuple[str, str], tuple[goals.LogicVersion, ...]]]:
    """Draw logics by (tenant, workflow); some workflows never had one set."""
    keys = [(tenant_id, workflow_id) for tenant_id in tenants for workflow_id in workflows]
    return st.fixed_dictionaries({keys[0]: logic_versions()}, optional={key: logic_versions() for key in keys[1:]})


@cache
def workflow_states() -> st.SearchStrategy[tuple[facts.WorkflowState, ...]]:
    """Draw the states of a workflow as they are kept: one a moment, by time."""
    return st.dictionaries(moments, st.booleans(), max_size=3).map(
        lambda drawn: tuple(facts.WorkflowState(since, active) for since, active in sorted(drawn.items()))
    )


@cache
@st.composite
def contact_events(
    draw: Draw,
    types: tuple[str, ...],
    tenants: tuple[str, ...] = TENANTS,
    contacts: tuple[str, ...] = CONTACTS,
    min_size: int = 0,
) -> tuple[events.Event, ...]:
    """Draw events of the five goal topics, each with an identity of its own."""
    what = st.tuples(mostly(types), mostly(contacts)).flatmap(lambda one: goal_data(*one))
    drawn = draw(st.lists(st.tuples(mostly(tenants), moments, what), min_size=min_size, max_size=7))
    numbers = draw(st.permutations(range(8, 8 + len(drawn))))  # "10" comes before "9", and ids don't follow time
    sources = draw(st.lists(st.sampled_from(SOURCES), min_size=len(drawn), max_size=len(drawn)))
    return tuple(
        events.Event(tenant_id, source, str(number), _EVENT_TYPE_OF_DATA[type(data)], time, data)
        for number, source, (tenant_id, time, data) in zip(numbers, sources, drawn, strict=True)
    )


_EVENT_TYPE_OF_DATA: Final = {row.data: row.event_type for row in events.GOAL_TYPE_TABLE.values()}


@cache
def lifecycles(tenants: tuple[str, ...] = TENANTS) -> st.SearchStrategy[tuple[events.Event, ...]]:
    """Draw messages of the lifecycle topic: starts, most of them early, a few ends, a few (de)activations."""
    early = st.sampled_from((0, 0, 0, 0, 2, 5, 8)).map(at)
    enrollments = tuple(f"{tenant_id}/{enrollment_id}" for tenant_id in tenants for enrollment_id in ENROLLMENTS)
    starts = st.fixed_dictionaries({key: early | early | early | st.none() for key in enrollments})
    types = st.sampled_from((events.ENROLLMENT_STARTED, *[events.ENROLLMENT_ENDED] * 3))
    more = st.lists(st.tuples(mostly(enrollments), types, moments), max_size=3)
    states = st.tuples(mostly(tenants), mostly(WORKFLOWS), st.sampled_from(_STATES), moments)
    return st.builds(_lifecycle, starts, more, st.lists(states, max_size=3))


def _lifecycle(
    starts: Mapping[str, datetime | None],
    more: Sequence[tuple[str, str, datetime]],
    states: Sequence[tuple[str, str, str, datetime]],
) -> tuple[events.Event, ...]:
    started = [(key, events.ENROLLMENT_STARTED, time) for key, time in starts.items() if time is not None]
    return (
        *(_enrollment(number, *one) for number, one in enumerate([*started, *more])),
        *(_state(number, *one) for number, one in enumerate(states)),
    )


_STATES: Final = (events.WORKFLOW_ACTIVATED, events.WORKFLOW_DEACTIVATED)


def _enrollment(number: int, key: str, type_: str, time: datetime) -> events.Event:
    tenant_id, enrollment_id = key.split("/")
    workflow_id, contact_id = ENROLLMENTS[enrollment_id]
    data = events.EnrollmentChanged(workflow_id, enrollment_id, contact_id)
    return events.Event(tenant_id, "/engine", f"enrollment-{number}", type_, time, data)


def _state(number: int, tenant_id: str, workflow_id: str, type_: str, time: datetime) -> events.Event:
    return events.Event(tenant_id, "/engine", f"state-{number}", type_, time, events.WorkflowChanged(workflow_id))


@dataclass(frozen=True, slots=True)
class World:
    """Goals and logics as they were set over time, and every message that was ever sent."""

    goals: tuple[goals.Goal, ...]
    logics: naive_judge.Logics
    messages: tuple[events.Event, ...]


@cache
@st.composite
def worlds(draw: Draw, tenants: tuple[str, ...] = TENANTS) -> World:
    """Draw a whole small world; its messages stand in no order that matters."""
    types = draw(goal_types())
    messages = (*draw(contact_events(types, tenants, min_size=3)), *draw(lifecycles(tenants)))
    return World(draw(goal_sets(types, tenants, min_size=2)), draw(logic_maps(tenants)), messages)


@st.composite
def deliveries(draw: Draw, messages: Sequence[events.Event]) -> list[list[events.Event]]:
    """Draw a way in which messages may arrive: in any order, some more than once, in batches of any size."""
    again = draw(st.lists(st.sampled_from(messages), max_size=4)) if messages else []
    arriving = draw(st.permutations([*messages, *again]))
    cuts = sorted(draw(st.sets(st.integers(0, len(arriving)), min_size=min(3, len(arriving)), max_size=6)))
    return [list(arriving[start:end]) for start, end in zip([0, *cuts], [*cuts, len(arriving)], strict=True)]
