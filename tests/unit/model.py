"""The worker without Kafka and PostgreSQL: facts recorded batch by batch, and judged after each."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from msgspec import json, structs

from goalworker.domain import events, evidence, facts, goals, ids, judging, occurrences, verdicts
from goalworker.domain.messages import Message
from goalworker.goal_index import index, matching
from tests.kit import naive_judge
from tests.kit.naive.money import Payment

NOW = datetime.fromisoformat("2026-02-01T00:00:00Z")
ContactKey = tuple[str, str]


class Answered(NamedTuple):
    """Stored answer about an enrollment, in the terms of the naive judge."""

    achieved: dict[UUID, naive_judge.Achieved]
    satisfied_at: datetime | None
    exit_waits: bool
    converted_at: datetime | None
    payments: Mapping[UUID, Mapping[str, Payment]]


class Model:
    """Model of the stored rows after any sequence of batches, for goals and logics that never change."""

    def __init__(self, all_goals: Iterable[goals.Goal], logics: naive_judge.Logics, *, tracked: bool = True) -> None:
        self._index = index.Index()
        self._index.replace(all_goals, logics, revision=1)
        self._tracked = tracked
        self._started: dict[naive_judge.EnrollmentKey, list[events.Event]] = defaultdict(list)
        self._states: dict[tuple[str, str], dict[datetime, bool]] = {}
        self._hits: dict[judging.HitKey, dict[str, facts.Hit]] = {}
        self._reversals: dict[ContactKey, dict[tuple[str, str], facts.Reversal]] = defaultdict(dict)
        self.enrollments: dict[naive_judge.EnrollmentKey, facts.Enrollment] = {}
        self.stored: dict[naive_judge.EnrollmentKey, dict[UUID, facts.Achievement]] = defaultdict(dict)
        self.sent: list[Message] = []

    def record(self, *batch: events.Event) -> None:
        """Take in one batch: first every fact, then a judgement of everything."""
        for event in batch:
            match event.data:
                case events.EnrollmentChanged():
                    self._record_enrollment(event, event.data)
                case events.WorkflowChanged():
                    self._record_state(event, event.data)
                case (
                    events.PaymentRefunded()
                    | events.PaymentFailed()
                    | events.AppointmentCancelled()
                    | events.FormRejected()
                ):
                    reversal = facts.reversal_of(event)
                    known = self._reversals[event.tenant_id, event.data.contact_id]
                    known.setdefault((event.source, event.id), reversal)
                case _:
                    self._record_hits(event)
        self.judge_all()

    def sweep(self) -> None:
        """Forget every hit, as if the lateness had passed (contract rule 3.6)."""
        self._hits.clear()

    def achieved(self) -> dict[naive_judge.AchievementKey, facts.Achievement]:
        """Return the achievements that are not revoked, by (tenant, enrollment, goal)."""
        return {
            (*key, goal_id): achievement
            for key, of_enrollment in self.stored.items()
            for goal_id, achievement in of_enrollment.items()
            if not achievement.revoked
        }

    def answers(self) -> dict[naive_judge.EnrollmentKey, Answered]:
        """Return what is stored of each enrollment."""
        return {key: self._answer(key, enrollment) for key, enrollment in self.enrollments.items()}

    def judge_all(self) -> None:
        """Judge every enrollment, and store the differences."""
        for key, enrollment in list(self.enrollments.items()):
            workflow_key = (enrollment.tenant_id, enrollment.workflow_id)
            verdict = verdicts.verdict_of(
                enrollment,
                list(self.stored[key].values()),
                self._hits_of(enrollment),
                self.states_of(*workflow_key),
                self._index.workflow(*workflow_key),
                NOW,
                self.reversals_of(enrollment.tenant_id, enrollment.contact_id),
                tracking=self._tracked,
            )
            if verdict is not None:
                self._store(key, verdict)

    def reversals_of(self, tenant_id: str, contact_id: str) -> list[facts.Reversal]:
        """Return the reversals of a contact."""
        return list(self._reversals[tenant_id, contact_id].values())

    def states_of(self, tenant_id: str, workflow_id: str) -> list[facts.WorkflowState]:
        """Return the states of a workflow, in order."""
        known = self._states.get((tenant_id, workflow_id), {})
        return [facts.WorkflowState(*state) for state in sorted(known.items())]

    def _answer(self, key: naive_judge.EnrollmentKey, enrollment: facts.Enrollment) -> Answered:
        live = {goal_id: one for goal_id, one in self.stored[key].items() if not one.revoked}
        achieved = {
            goal_id: naive_judge.Achieved(
                naive_judge.Walked(*one.trigger.order),
                one.goal_version,
                None if one.counted is None else one.counted.occurrences,
                None if one.counted is None else one.counted.total_amount,
            )
            for goal_id, one in live.items()
        }
        payments = self._payments(enrollment, live)
        return Answered(achieved, enrollment.satisfied_at, enrollment.exit_waits, enrollment.converted_at, payments)

    def _payments(
        self, enrollment: facts.Enrollment, live: Mapping[UUID, facts.Achievement]
    ) -> dict[UUID, dict[str, Payment]]:
        """Return the payments of each goal, each as its earliest event says it (contract section 5)."""
        known = self._index.workflow(enrollment.tenant_id, enrollment.workflow_id).goals_by_id
        rows = [
            (goal_id, one.trigger, Decimal(0))
            for goal_id, one in live.items()
            if known[goal_id].goal_type == "purchase_made"
        ]
        if enrollment.payments is not None:
            kept = json.decode(enrollment.payments, type=list[evidence.KeptHit])
            rows = [
                (one.goal_id, facts.Trigger(one.source, one.id, one.time, bytes(one.data)), one.reversed or Decimal(0))
                for one in kept
            ]
        found: dict[UUID, dict[str, Payment]] = {}
        for goal_id, trigger, taken_back in sorted(rows, key=lambda row: row[1].order, reverse=True):
            details = occurrences.details_of(trigger.data)
            assert details.payment_id is not None
            assert details.amount is not None
            assert details.currency is not None
            payment = Payment(naive_judge.Walked(*trigger.order), details.amount, details.currency.upper(), taken_back)
            found.setdefault(goal_id, {})[details.payment_id] = payment
        return found

    def _record_enrollment(self, event: events.Event, data: events.EnrollmentChanged) -> None:
        if not self._tracked:
            return
        key = (event.tenant_id, data.enrollment_id)
        enrollment = self._enroll(event.tenant_id, data.enrollment_id, data.workflow_id, data.contact_id)
        if (enrollment.workflow_id, enrollment.contact_id) != (data.workflow_id, data.contact_id):
            return
        if event.type == events.ENROLLMENT_ENDED:
            ended_at = min(enrollment.ended_at or event.time, event.time)
            self.enrollments[key] = structs.replace(enrollment, ended_at=ended_at)
            return
        self._started[key].append(event)
        self.enrollments[key] = structs.replace(enrollment, **_started_as(self._started[key]))

    def _record_state(self, event: events.Event, data: events.WorkflowChanged) -> None:
        states = self._states.setdefault((event.tenant_id, data.workflow_id), {})
        states[event.time] = states.get(event.time, True) and event.type == events.WORKFLOW_ACTIVATED

    def _record_hits(self, event: events.Event) -> None:
        for hit in matching.hits(event, self._index):
            self._hits.setdefault(judging.hit_key(hit), {}).setdefault(hit.tenant_id, hit)
            if not self._tracked:
                enrollment_id = ids.contact_enrollment_id(hit.workflow_id, hit.contact_id)
                self._enroll(hit.tenant_id, enrollment_id, hit.workflow_id, hit.contact_id)

    def _enroll(self, tenant_id: str, enrollment_id: str, workflow_id: str, contact_id: str) -> facts.Enrollment:
        new = facts.Enrollment(tenant_id, enrollment_id, workflow_id, contact_id)
        return self.enrollments.setdefault((tenant_id, enrollment_id), new)

    def _hits_of(self, enrollment: facts.Enrollment) -> list[facts.Hit]:
        whose = (enrollment.tenant_id, enrollment.workflow_id, enrollment.contact_id)
        return [
            hit
            for by_tenant in self._hits.values()
            for hit in by_tenant.values()
            if (hit.tenant_id, hit.workflow_id, hit.contact_id) == whose
        ]

    def _store(self, key: naive_judge.EnrollmentKey, verdict: verdicts.Verdict) -> None:
        """Store a verdict as the database would, through JSON and back."""
        for change in verdict.changes:
            kept = evidence.others_to_json(change.achievement)
            counted, others = evidence.others_from_json(kept)
            achievement = structs.replace(change.achievement, counted=counted, others=others)
            self.stored[key][achievement.goal_id] = achievement
        outcome = structs.asdict(verdict.outcome)
        if verdict.exit is not None:
            outcome["exited_at"] = verdict.outcome.satisfied_at
        self.enrollments[key] = structs.replace(self.enrollments[key], **outcome)
        self.sent += verdict.messages


def _started_as(messages: Iterable[events.Event]) -> dict[str, object]:
    """Return what the started messages of an enrollment say: of each field, the earliest message that has it."""
    data = [(event.time, event.data) for event in messages if isinstance(event.data, events.EnrollmentChanged)]
    correlated = [(time, one.correlation_id) for time, one in data if one.correlation_id is not None]
    founded = [(time, one.started_by.source, one.started_by.id) for time, one in data if one.started_by is not None]
    _, correlation_id = min(correlated, default=(None, None))
    _, source, id_ = min(founded, default=(None, None, None))
    return {
        "enrolled_at": min(time for time, _ in data),
        "correlation_id": correlation_id,
        "started_by_source": source,
        "started_by_id": id_,
    }
