"""Small worlds, drawn from any source of choices: few names, few moments, many collisions and ties.

The same functions serve Hypothesis (strategies.py), which shrinks what it draws, and a seeded source of random numbers,
which draws a thousand times faster. The first of several choices is the simplest one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final
from uuid import UUID

from msgspec import structs

from goalworker.domain import events, goals
from goalworker.domain.criteria import Criteria
from tests.kit import naive_judge
from tests.kit.choices import TICKS, Source, at, seeded

__all__ = ["TICKS", "Source", "at", "seeded"]

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

TAG_IDS: Final = ("tag-1", "tag-2", "tag-3")
TAG_NAMES: Final = ("Customer", " customer ", "\uff23ustomer", "Straße", "STRASSE", "other")
PRODUCTS: Final = ("p1", "p2", "p3")
AMOUNTS: Final = tuple(map(Decimal, ("100", "99.99", "0", "100.00", "100.000000000000000001", "1000000000000000")))
PRICES: Final = tuple(map(Decimal, ("100", "50", "60", "30")))
"""Amounts of payments and refunds that add up to one another."""
CURRENCIES: Final = ("EUR", "EUR", "USD", "USD", "eur")
SOURCES: Final = ("/Z", "/a", "/\uff5e", "/\U0001f600")
"""In code point order, which is not the order of UTF-16 nor that of a dictionary."""
NUMBERS: Final = ("1", "2", "3")
"""Numbers of payments, appointments, submissions and deals."""
CORRELATIONS: Final = ("k1", "k2")


# --- goals ---

TYPES: Final = (
    *["purchase_made"] * 11,
    *["appointment_booked"] * 8,
    *["form_submitted"] * 6,
    "tag_added",
    "pipeline_stage_reached",
)


def goal_types(source: Source) -> tuple[str, ...]:
    """Draw the one or two goal types of a world; few, so that events and goals meet."""
    first, second = source.one(TYPES), source.one(TYPES)
    return (first, second) if first != second and source.chance(60) else (first,)


_OFTEN: Final = (*["plain"] * 4, *["times"] * 3, *["deadline", "correlate_by"] * 2)


def criteria(source: Source, goal_type: str) -> Criteria:
    """Draw normalised criteria: those of the type, and one or two settings of how to count."""
    own = _CRITERIA[goal_type](source)
    settings = source.one(_OFTEN if goal_type != "purchase_made" else (*_OFTEN, *["total_amount"] * 3))
    drawn = _SETTINGS[settings](source, own, goal_type)
    return structs.replace(drawn, reversals=source.some(18, ("keep",)))


def _counted(source: Source, own: Criteria, goal_type: str) -> Criteria:
    times = source.one((2, 2, 2, 3))
    return _bounded(source, structs.replace(own, times=times))


def _summed(source: Source, own: Criteria, goal_type: str) -> Criteria:
    total = Decimal(source.one((150, 150, 100, 200)))
    summed = structs.replace(own, min_amount=None, currency=source.mostly(("EUR", "USD")), total_amount=total)
    return _bounded(source, summed)


def _bounded(source: Source, counting: Criteria) -> Criteria:
    """Give `within`, `deadline` or both, one of which is required."""
    bounds = source.one(("within", "within", "within", "deadline", "both"))
    return structs.replace(
        counting,
        within=None if bounds == "deadline" else source.number(1, 3),
        deadline=None if bounds == "within" else source.number(2, 4),
    )


def _correlated(source: Source, own: Criteria, goal_type: str) -> Criteria:
    of_type = {
        "purchase_made": "payment_id",
        "appointment_booked": "appointment_id",
        "form_submitted": "submission_id",
        "pipeline_stage_reached": "deal_id",
    }
    field = of_type.get(goal_type, "correlation_id") if source.chance(40) else "correlation_id"
    return structs.replace(own, correlate_by=field)


_SETTINGS: Final[Mapping[str, Callable[[Source, Criteria, str], Criteria]]] = {
    "plain": lambda source, own, goal_type: own,
    "times": _counted,
    "total_amount": _summed,
    "deadline": lambda source, own, goal_type: structs.replace(own, deadline=source.number(1, 4)),
    "correlate_by": _correlated,
}


def _tag_criteria(source: Source) -> Criteria:
    by = source.one(("id", "name", "both"))
    return Criteria(
        tag_id=None if by == "name" else source.ids(TAG_IDS), tag_name=None if by == "id" else source.one(TAG_NAMES)
    )


def _purchase_criteria(source: Source) -> Criteria:
    normalised = [amount for amount in AMOUNTS if str(amount) != "100.00"]
    return Criteria(
        product_id=source.ids(PRODUCTS) if source.chance(15) else None,
        min_amount=source.some(15, normalised),
        currency=source.some(30, ("EUR", "USD")),
    )


def _booking_criteria(source: Source) -> Criteria:
    return Criteria(
        calendar_id=source.ids(("cal-1", "cal-2", "cal-3")) if source.chance(30) else None,
        service_id=source.ids(("s1", "s2", "s3")) if source.chance(15) else None,
    )


_CRITERIA: Final[Mapping[str, Callable[[Source], Criteria]]] = {
    "tag_added": _tag_criteria,
    "purchase_made": _purchase_criteria,
    "appointment_booked": _booking_criteria,
    "form_submitted": lambda source: Criteria(form_id=source.ids(("f1", "f2", "f3"))),
    "pipeline_stage_reached": lambda source: Criteria(
        pipeline_id=source.ids(("pl-1", "pl-2", "pl-3")), stage_id=source.ids(("st-1", "st-2", "st-3"))
    ),
}


def versions(source: Source, goal_type: str) -> tuple[goals.GoalVersion, ...]:
    """Draw a goal's life: created before everything or midway, changed, paused, deleted."""
    created = source.one((-3, -4, -5, -3, -4, -5, -3, 3, 6))
    if goal_type == "purchase_made" and source.chance(20):
        return _corrected_currency(source, created)
    drawn = criteria(source, goal_type)
    is_counting = drawn.times is not None or drawn.total_amount is not None
    changed = _changes(source, created) if source.chance(75 if is_counting else 40) else []
    deleted = source.number(max([created, *changed, 2]) + 1, TICKS + 2) if source.chance(25) else None
    life: list[goals.GoalVersion] = []
    for start, end in zip([created, *changed], [*changed, deleted], strict=True):
        ended = None if end is None else at(end)
        life.append(goals.GoalVersion(len(life) + 1, drawn, not source.chance(8), at(start), ended))
        is_another = source.chance(30)
        is_purchase = goal_type == "purchase_made"
        drawn = criteria(source, goal_type) if is_another else changed_criteria(source, drawn, is_purchase=is_purchase)
    return tuple(life)


def _corrected_currency(source: Source, created: int) -> tuple[goals.GoalVersion, ...]:
    """Draw a goal whose total is of one currency first, and of another one later."""
    changed = at(source.tick(max(created, 0) + 1))
    first = Criteria(currency=source.one(("EUR", "USD")), total_amount=Decimal(200), within=3)
    second = structs.replace(first, currency="USD" if first.currency == "EUR" else "EUR", total_amount=Decimal(100))
    return (
        goals.GoalVersion(1, first, True, at(created), changed),
        goals.GoalVersion(2, second, True, changed),
    )


def _changes(source: Source, created: int) -> list[int]:
    return sorted(source.several([tick for tick in source.ticks if tick > created], 1, 2))


def changed_criteria(source: Source, before: Criteria, *, is_purchase: bool = False) -> Criteria:
    """Draw criteria that differ from those before in how they count."""
    if before.total_amount is not None:
        other = "USD" if before.currency == "EUR" else "EUR"
        total = source.one((before.total_amount, before.total_amount + 50, before.total_amount - 50))
        return structs.replace(before, currency=other if source.chance(75) else before.currency, total_amount=total)
    if is_purchase and source.chance(35):
        return structs.replace(_summed(source, before, ""), times=None)
    if before.times is not None:
        return _counted(source, before, "")
    return _counted(source, before, "")


def goal_sets(
    source: Source,
    types: Sequence[str],
    tenants: Sequence[str] = TENANTS,
    workflows: Sequence[str] = WORKFLOWS,
    least: int = 1,
    most: int = 5,
) -> tuple[goals.Goal, ...]:
    """Draw goals, in no order of their ids, the first one where most things happen."""
    numbers = source.several(range(1, 10), least, most)
    drawn = [_goal(source, numbers[0], types[:1], tenants[:1], workflows[:1])]
    for number in numbers[1:]:
        is_twin = source.chance(65)
        drawn.append(_twin(source, number, drawn[0]) if is_twin else _goal(source, number, types, tenants, workflows))
    return tuple(drawn)


def _recounted(source: Source, first: goals.GoalVersion) -> tuple[goals.GoalVersion, ...]:
    """Change how a goal counts, in the middle of its counting."""
    changed = at(source.tick(2))
    second = goals.GoalVersion(2, _counted(source, first.criteria, ""), True, changed)
    return (structs.replace(first, active_to=changed), second) if source.chance(50) else (first,)


def _twin(source: Source, number: int, like: goals.Goal) -> goals.Goal:
    """Draw a goal that the same events hit, but which needs more of them, or fewer."""
    criteria_ = structs.replace(like.versions[0].criteria, total_amount=None, times=None, reversals=None)
    life: tuple[goals.GoalVersion, ...] = (goals.GoalVersion(1, criteria_, True, at(source.one((-3, -4, -5)))),)
    is_like_counting = like.versions[0].criteria.times is not None
    if source.chance(15 if is_like_counting else 85):
        life = _recounted(source, structs.replace(life[0], criteria=_counted(source, criteria_, "")))
    return structs.replace(like, goal_id=UUID(int=number), created_at=life[0].active_from, versions=life)


def _goal(
    source: Source, number: int, types: Sequence[str], tenants: Sequence[str], workflows: Sequence[str]
) -> goals.Goal:
    goal_type = source.mostly(types)
    life = versions(source, goal_type)
    identity = (source.mostly(tenants), UUID(int=number), source.mostly(workflows), goal_type)
    return goals.Goal(*identity, life[0].active_from, life)


def logic_versions(source: Source) -> tuple[goals.LogicVersion, ...]:
    """Draw the logics that a workflow had, oldest first; many measure first and stop later."""
    if source.chance(15):
        return (goals.LogicVersion("never", at(-3)), goals.LogicVersion("any", at(source.tick(3))))
    first = source.one(((), ("any",), *[("all",)] * 4, ("never",), ("never",)))
    moments = sorted(source.several(source.ticks, 0, 2)) if source.chance(60) else []
    later = [(moment, source.one(("any", "any", "all", "never"))) for moment in moments]
    return tuple(goals.LogicVersion(name, at(tick)) for tick, name in [*((-3, name) for name in first), *later])


Logics = naive_judge.Logics


def logic_maps(
    source: Source, tenants: Sequence[str] = TENANTS, workflows: Sequence[str] = WORKFLOWS
) -> dict[tuple[str, str], tuple[goals.LogicVersion, ...]]:
    """Draw logics by (tenant, workflow); some workflows never had one set."""
    keys = [(tenant_id, workflow_id) for tenant_id in tenants for workflow_id in workflows]
    return {key: logic_versions(source) for key in keys if key == keys[0] or source.chance(50)}


# --- a whole world ---


@dataclass(frozen=True, slots=True)
class World:
    """Goals and logics as they were set over time, and every message that was ever sent."""

    goals: tuple[goals.Goal, ...]
    logics: Logics
    messages: tuple[events.Event, ...]

    def untracked(self) -> "World":
        """Return the same world with the goals that it may have where enrollment tracking is off (rule 8)."""
        return replace(self, goals=tuple(map(_untracked, self.goals)))


def _untracked(goal: goals.Goal) -> goals.Goal:
    return structs.replace(
        goal,
        versions=tuple(
            structs.replace(version, criteria=without_enrollment(version.criteria)) for version in goal.versions
        ),
    )


def without_enrollment(given: Criteria) -> Criteria:
    """Drop `deadline` and `correlate_by`; a goal that counts is bounded by `within` then."""
    is_counting = given.times is not None or given.total_amount is not None
    within = given.within or (given.deadline if is_counting else None)
    return structs.replace(given, deadline=None, correlate_by=None, within=within)
