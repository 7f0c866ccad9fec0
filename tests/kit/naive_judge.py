"""Contract section 3 a second time, from its sentences alone: slow and obvious, sharing no logic with goalworker.

Nothing here is merged, indexed or stopped early: every answer is a set of events, made by looking at everything that
ever happened. Each function of `naive/` is one sentence of the contract, quoted or nearly so in its docstring. A
sentence marked as a rule can be switched off (`without`), which shows how much it weighs in generated worlds.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, TypeVar
from uuid import UUID

from goalworker.domain import events, goals, ids
from goalworker.domain.facts import BEGINNING
from tests.kit.naive import rules
from tests.kit.naive.facts import Facts, Walked, walked
from tests.kit.naive.hits import fold, hits, in_force, meets
from tests.kit.naive.money import Payment, converted_at, payments
from tests.kit.naive.rules import RULES, rule
from tests.kit.naive.walk import Achieved, Satisfied, exit_waits, walk

__all__ = ["RULES", "Achieved", "Facts", "Satisfied", "Walked", "fold", "hits", "in_force", "meets", "walked"]


class Answer(NamedTuple):
    """All that is to be said of one enrollment."""

    achieved: dict[UUID, Achieved]
    satisfied: Satisfied | None
    exit_waits: bool = False
    """Satisfied while the workflow was inactive, with no activation known since; whether it ended is not asked."""
    converted_at: datetime | None = None
    payments: Mapping[UUID, Mapping[str, Payment]] = {}
    """By goal and payment_id, for revenue."""


def answer(facts: Facts) -> Answer:
    """Say all that is to be said of one enrollment."""
    if facts.enrolled_at is None:
        return Answer({}, None)
    really = walk(facts)
    return Answer(
        really.achieved,
        really.satisfied,
        exit_waits(facts, really.satisfied),
        converted_at(facts, really),
        payments(facts, really),
    )


# --- revenue ---


@rule(sorted)
def each_once(same: set[Payment]) -> list[Payment]:
    """Section 5: Each payment once however many goals or enrollments it met, as its earliest event says it."""
    return [min(same)]


Money = dict[str, tuple[Decimal, Decimal, Decimal]]
"""(gross, reversed, net) by currency."""


def revenue(answered: Iterable[tuple[str, Answer]]) -> Money:
    """Add up the distinct payments of (contact_id, Answer): each once, however many goals or enrollments it met."""
    found: dict[tuple[str, str], set[Payment]] = {}
    for contact_id, answer_ in answered:
        for by_payment in answer_.payments.values():
            for payment_id, one in by_payment.items():
                found.setdefault((contact_id, payment_id), set()).add(one)
    money: Money = {}
    for one in [one for same in found.values() for one in each_once(same)]:
        gross, reversed_, net = money.get(one.currency, (Decimal(0),) * 3)
        money[one.currency] = (gross + one.amount, reversed_ + one.reversed, net + one.amount - one.reversed)
    return money


# --- a whole world at once ---

AchievementKey = tuple[str, str, UUID]
EnrollmentKey = tuple[str, str]
Logics = Mapping[tuple[str, str], tuple[goals.LogicVersion, ...]]


class Enrolled(NamedTuple):
    """The identity of an enrollment, and what it is a run of."""

    tenant_id: str
    enrollment_id: str
    workflow_id: str
    contact_id: str


def answers(
    all_goals: Collection[goals.Goal],
    logics: Logics,
    messages: Collection[events.Event],
    *,
    tracked: bool = True,
    without: frozenset[str] = frozenset(),
) -> tuple[dict[AchievementKey, Walked], dict[EnrollmentKey, Satisfied]]:
    """Judge every enrollment; return only what is achieved and satisfied, each with its event."""
    answered = everything(all_goals, logics, messages, tracked=tracked, without=without)
    achieved = {
        (enrolled.tenant_id, enrolled.enrollment_id, goal_id): achieved.at
        for enrolled, one in answered.items()
        for goal_id, achieved in one.achieved.items()
    }
    return achieved, {key[:2]: one.satisfied for key, one in answered.items() if one.satisfied is not None}


def everything(
    all_goals: Collection[goals.Goal],
    logics: Logics,
    messages: Collection[events.Event],
    *,
    tracked: bool = True,
    without: frozenset[str] = frozenset(),
) -> dict[Enrolled, Answer]:
    """Judge every enrollment that the messages speak of, once, with all of them known."""
    known = {(event.tenant_id, event.source, event.id): event for event in reversed(list(messages))}
    with rules.switched_off(without):
        return {
            enrolled: answer(_facts(enrolled, all_goals, logics, known.values(), tracked=tracked))
            for enrolled in (_tracked(messages) if tracked else _untracked(all_goals, messages))
        }


def workflow_revenue(
    answered: Mapping[Enrolled, Answer], *, without: frozenset[str] = frozenset()
) -> dict[tuple[str, str], Money]:
    """Return the revenue of each workflow, by (tenant_id, workflow_id)."""
    with rules.switched_off(without):
        return _workflow_revenue(answered)


def _workflow_revenue(answered: Mapping[Enrolled, Answer]) -> dict[tuple[str, str], Money]:
    keys = {(enrolled.tenant_id, enrolled.workflow_id) for enrolled in answered}
    return {
        key: revenue(
            (enrolled.contact_id, one)
            for enrolled, one in answered.items()
            if (enrolled.tenant_id, enrolled.workflow_id) == key
        )
        for key in keys
    }


def _facts(
    enrolled: Enrolled,
    all_goals: Collection[goals.Goal],
    logics: Logics,
    messages: Collection[events.Event],
    *,
    tracked: bool,
) -> Facts:
    key = (enrolled.tenant_id, enrolled.workflow_id)
    of_tenant = [event for event in messages if event.tenant_id == enrolled.tenant_id]
    happened = [event for event in of_tenant if _contact(event) == enrolled.contact_id]
    states = [
        (event.time, event.type == events.WORKFLOW_ACTIVATED)
        for event in of_tenant
        if isinstance(event.data, events.WorkflowChanged) and event.data.workflow_id == enrolled.workflow_id
    ]
    own = tuple(goal for goal in all_goals if (goal.tenant_id, goal.workflow_id) == key)
    facts = Facts(BEGINNING, None, happened, states, goals.Workflow(own, logics.get(key, ())))
    about = [event for event in of_tenant if _enrollment(event) == enrolled.enrollment_id]
    return _from_its_messages(facts, about) if tracked else _from_the_beginning_of_time(facts)


def _from_the_beginning_of_time(facts: Facts) -> Facts:
    """Rule 8: Enrollment messages are ignored; `deadline` and `correlate_by` are refused."""
    settings = [version.criteria for goal in facts.workflow.goals for version in goal.versions]
    assert not any(one.deadline or one.correlate_by for one in settings), "refused where tracking is off (rule 8)"
    return facts


def _from_its_messages(facts: Facts, about: Collection[events.Event]) -> Facts:
    """Section 2: The envelope's time is enrolled_at for started, and ended_at for ended."""
    started = [event for event in about if event.type == events.ENROLLMENT_STARTED]
    ended = [event for event in about if event.type == events.ENROLLMENT_ENDED]
    return facts._replace(
        enrolled_at=earlier_stands(started),
        ended_at=earlier_stands(ended),
        correlation_id=first_correlation_id(started),
        started_by=first_started_by(started),
    )


@rule(lambda said: max((event.time for event in said), default=None))
def earlier_stands(said: Collection[events.Event]) -> datetime | None:
    """Section 2: Started twice: the earlier time stands; ended twice: likewise."""
    return min((event.time for event in said), default=None)


def first_correlation_id(started: Collection[events.Event]) -> str | None:
    """Rule 2: correlation_id is that of the earliest started message that has one; of equal times, the smaller one."""
    known = {
        (event.time, event.data.correlation_id)
        for event in started
        if isinstance(event.data, events.EnrollmentChanged) and event.data.correlation_id is not None
    }
    return the_earliest(known)[1] if known else None


def first_started_by(started: Collection[events.Event]) -> events.EventReference | None:
    """Rule 2: started_by is that of the earliest started message that has one; of equal times, the smaller one."""
    named = {
        (event.time, (event.data.started_by.source, event.data.started_by.id))
        for event in started
        if isinstance(event.data, events.EnrollmentChanged) and event.data.started_by is not None
    }
    return events.EventReference(*the_earliest(named)[1]) if named else None


T = TypeVar("T", str, tuple[str, str])


@rule(max)
def the_earliest(said: Collection[tuple[datetime, T]]) -> tuple[datetime, T]:
    """Rule 2: ... of the earliest started message that has one."""
    return min(said)


def _tracked(messages: Collection[events.Event]) -> set[Enrolled]:
    return {
        Enrolled(event.tenant_id, event.data.enrollment_id, event.data.workflow_id, event.data.contact_id)
        for event in messages
        if isinstance(event.data, events.EnrollmentChanged)
    }


def _untracked(all_goals: Collection[goals.Goal], messages: Collection[events.Event]) -> set[Enrolled]:
    """Rule 8: Every contact counts as enrolled once in every workflow."""
    return {
        Enrolled(goal.tenant_id, ids.contact_enrollment_id(goal.workflow_id, contact_id), goal.workflow_id, contact_id)
        for goal in all_goals
        for event in messages
        if event.tenant_id == goal.tenant_id and (contact_id := _contact(event)) is not None
    }


def _contact(event: events.Event) -> str | None:
    """Return the contact of an event or a reversal."""
    if isinstance(event.data, events.EnrollmentChanged | events.WorkflowChanged):
        return None
    return event.data.contact_id


def _enrollment(event: events.Event) -> str | None:
    return event.data.enrollment_id if isinstance(event.data, events.EnrollmentChanged) else None
