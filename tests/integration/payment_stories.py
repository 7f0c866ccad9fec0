"""Stories of payments, refunds and enrollments in one workflow, and the rows that judgements make of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from goalworker.domain import criteria, events, facts, goals, verdicts
from goalworker.domain.criteria import Criteria
from goalworker.postgres import connections
from tests.integration import world

TENANT, WORKFLOW = "north", "w1"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
YEAR = 365 * 86_400

ANY_PURCHASE = Criteria()
BIG = Criteria(min_amount=Decimal(50))
TWICE = Criteria(times=2, within=YEAR)
KEPT = Criteria(reversals="keep")
INSTALMENTS = Criteria(total_amount=Decimal(300), currency="EUR", within=YEAR)


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def goal_id(number: int) -> UUID:
    return UUID(int=number)


@dataclass(frozen=True)
class Paid:
    """A payment that a contact made."""

    minute: float
    payment_id: str
    amount: str = "49.90"
    currency: str = "EUR"
    contact_id: str = "ann"
    id: str = ""

    def trigger(self) -> facts.Trigger:
        return facts.trigger_of(
            events.Event(TENANT, "/shop", self.event_id, "payment.completed", at(self.minute), self.data)
        )

    @property
    def event_id(self) -> str:
        return self.id or f"{self.payment_id}@{self.minute}"

    @property
    def data(self) -> events.PaymentCompleted:
        return events.PaymentCompleted(self.contact_id, self.payment_id, Decimal(self.amount), self.currency)


@dataclass(frozen=True)
class TakenBack:
    """A refund or, without amount and currency, also a failure of a payment."""

    minute: float
    payment_id: str
    amount: str | None = None
    currency: str | None = None
    refund_id: str | None = None
    contact_id: str = "ann"
    type: str = events.PAYMENT_REFUNDED

    def fact(self, number: int) -> facts.Reversal:
        amount = None if self.amount is None else Decimal(self.amount)
        what = (self.type, self.payment_id, self.refund_id, amount, self.currency)
        return facts.Reversal("/shop", f"reversal {number}", at(self.minute), *what)


@dataclass(frozen=True)
class Run:
    """An enrollment of a contact."""

    minute: float = 0
    contact_id: str = "ann"


@dataclass(frozen=True)
class Story:
    """Events of one workflow, whose goals are numbered from 1."""

    goals_criteria: Sequence[Criteria]
    paid: Sequence[Paid]
    taken_back: Sequence[TakenBack] = ()
    runs: Sequence[Run] = (Run(),)
    logic: str = "never"

    def workflow(self) -> goals.Workflow:
        began = at(-10_000)
        known = tuple(
            goals.Goal(
                TENANT, goal_id(number), WORKFLOW, "purchase_made", began, (goals.GoalVersion(1, wanted, True, began),)
            )
            for number, wanted in enumerate(self.goals_criteria, start=1)
        )
        return goals.Workflow(known, (goals.LogicVersion(self.logic, began),))


# --- rows, as judgements leave them ---


async def store(administrator: connections.Connection, story: Story, *, tracking: bool = True) -> None:
    """Judge each enrollment without the reversals and then with them, and write the rows."""
    workflow = story.workflow()
    await world.install(administrator, workflow.goals, {(TENANT, WORKFLOW): workflow.logics})
    for number, one in enumerate(story.taken_back):
        await _store_reversal(administrator, one, one.fact(number))
    for number, run in enumerate(story.runs):
        await _store_run(administrator, story, workflow, f"e{number}", run, tracking=tracking)


async def _store_reversal(administrator: connections.Connection, one: TakenBack, fact: facts.Reversal) -> None:
    await administrator.execute(
        "INSERT INTO reversals VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        *(TENANT, one.contact_id, fact.source, fact.id, fact.type, fact.subject_id, fact.time),
        *(fact.refund_id, fact.amount, fact.currency),
    )


async def _store_run(
    administrator: connections.Connection,
    story: Story,
    workflow: goals.Workflow,
    enrollment_id: str,
    run: Run,
    *,
    tracking: bool,
) -> None:
    own = [fact for fact in enumerate(story.taken_back) if fact[1].contact_id == run.contact_id]
    reversals = [one.fact(number) for number, one in own]
    hits = list(_hits(story, workflow, run.contact_id))
    enrolled_at = at(run.minute) if tracking else None
    enrollment = facts.Enrollment(TENANT, enrollment_id, WORKFLOW, run.contact_id, enrolled_at)
    stored: dict[UUID, facts.Achievement] = {}
    for known in ([], reversals):
        verdict = verdicts.verdict_of(
            enrollment, list(stored.values()), hits, (), workflow, NOON, known, tracking=tracking
        )
        if verdict is not None:
            stored |= {change.achievement.goal_id: change.achievement for change in verdict.changes}
            enrollment = facts.Enrollment(
                *(TENANT, enrollment_id, WORKFLOW, run.contact_id, enrolled_at),
                satisfied_at=verdict.outcome.satisfied_at,
                converted_at=verdict.outcome.converted_at,
                payments=verdict.outcome.payments,
            )
    await _write(administrator, enrollment, stored.values())


def _hits(story: Story, workflow: goals.Workflow, contact_id: str) -> Iterable[facts.Hit]:
    for paid in story.paid:
        for goal in workflow.goals:
            if paid.contact_id == contact_id and criteria.matches(goal.versions[0].criteria, paid.data):
                yield facts.Hit(TENANT, WORKFLOW, contact_id, goal.goal_id, 1, paid.trigger())


async def _write(
    administrator: connections.Connection, enrollment: facts.Enrollment, stored: Iterable[facts.Achievement]
) -> None:
    whose = (TENANT, enrollment.enrollment_id, WORKFLOW, enrollment.contact_id)
    await administrator.execute(
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at, satisfied_at,"
        " converted_at, payments) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        *(*whose, enrollment.enrolled_at, enrollment.satisfied_at, enrollment.converted_at, enrollment.payments),
    )
    for one in stored:
        trigger = one.trigger
        await administrator.execute(
            "INSERT INTO achievements (tenant_id, enrollment_id, workflow_id, contact_id, goal_id, goal_version,"
            " goal_type, enrolled_at, achieved_at, event_source, event_id, data, revision, revoked_at, payments_apart)"
            " VALUES ($1, $2, $3, $4, $5, 1, 'purchase_made', $6, $7, $8, $9, $10, $11, $12, $13)",
            *(*whose, one.goal_id, one.enrolled_at, trigger.time, trigger.source, trigger.id, trigger.data.decode()),
            *(one.revision, NOON if one.revoked else None, enrollment.payments is not None),
        )
