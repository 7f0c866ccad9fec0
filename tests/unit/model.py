"""The worker without Kafka and PostgreSQL: facts recorded batch by batch, and judged after each."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from goalworker.domain import events, facts, goals, ids, judging
from goalworker.goal_index import index, matching
from tests.kit import naive_judge


class Stored(NamedTuple):
    """A recorded achievement; a revoked one stays, as evidence."""

    hit: facts.Hit
    revoked: bool


class Model:
    """Model of the stored rows after any sequence of batches, for goals and logics that never change."""

    def __init__(self, all_goals: Iterable[goals.Goal], logics: naive_judge.Logics, *, tracked: bool = True) -> None:
        self._index = index.Index()
        self._index.replace(all_goals, logics, revision=1)
        self._tracked = tracked
        self._enrollments: dict[naive_judge.EnrollmentKey, facts.Enrollment] = {}
        self._states: dict[tuple[str, str], dict[datetime, bool]] = {}
        self._hits: dict[tuple[str, UUID, str, str], facts.Hit] = {}
        self._stored: dict[naive_judge.AchievementKey, Stored] = {}
        self._satisfied: dict[naive_judge.EnrollmentKey, naive_judge.Satisfied] = {}

    def record(self, *batch: events.Event) -> None:
        """Take in one batch: first every fact, then a judgement of everything."""
        for event in batch:
            match event.data:
                case events.EnrollmentChanged():
                    self._record_enrollment(event, event.data)
                case events.WorkflowChanged():
                    self._record_state(event, event.data)
                case _:
                    self._record_hits(event)
        for key, enrollment in self._enrollments.items():
            self._judge(key, enrollment)

    def sweep(self) -> None:
        """Forget every hit, as if the lateness had passed (contract rule 3.6)."""
        self._hits.clear()

    def achievements(self) -> dict[naive_judge.AchievementKey, naive_judge.Walked]:
        """Return what is achieved and not revoked, by (tenant, enrollment, goal)."""
        return {key: _evidence(stored.hit) for key, stored in self._stored.items() if not stored.revoked}

    def satisfied(self) -> dict[naive_judge.EnrollmentKey, naive_judge.Satisfied]:
        """Return what satisfied each workflow, by (tenant, enrollment)."""
        return dict(self._satisfied)

    def _record_enrollment(self, event: events.Event, data: events.EnrollmentChanged) -> None:
        if not self._tracked:
            return
        enrollment = self._enroll(event.tenant_id, data.enrollment_id, data.workflow_id, data.contact_id)
        if (enrollment.workflow_id, enrollment.contact_id) != (data.workflow_id, data.contact_id):
            return
        moment = "enrolled_at" if event.type == events.ENROLLMENT_STARTED else "ended_at"
        earliest = min(getattr(enrollment, moment) or event.time, event.time)
        key = (event.tenant_id, data.enrollment_id)
        self._enrollments[key] = msgspec.structs.replace(enrollment, **{moment: earliest})

    def _record_state(self, event: events.Event, data: events.WorkflowChanged) -> None:
        states = self._states.setdefault((event.tenant_id, data.workflow_id), {})
        states[event.time] = states.get(event.time, True) and event.type == events.WORKFLOW_ACTIVATED

    def _record_hits(self, event: events.Event) -> None:
        for hit in matching.hits(event, self._index):
            self._hits.setdefault((hit.tenant_id, hit.goal_id, event.source, event.id), hit)
            if not self._tracked:
                enrollment_id = ids.contact_enrollment_id(hit.workflow_id, hit.contact_id)
                self._enroll(hit.tenant_id, enrollment_id, hit.workflow_id, hit.contact_id)

    def _enroll(self, tenant_id: str, enrollment_id: str, workflow_id: str, contact_id: str) -> facts.Enrollment:
        new = facts.Enrollment(tenant_id, enrollment_id, workflow_id, contact_id)
        return self._enrollments.setdefault((tenant_id, enrollment_id), new)

    def _judge(self, key: naive_judge.EnrollmentKey, enrollment: facts.Enrollment) -> None:
        workflow_key = (enrollment.tenant_id, enrollment.workflow_id)
        known_states = sorted(self._states.get(workflow_key, {}).items())
        states = [facts.WorkflowState(since, active) for since, active in known_states]
        workflow = self._index.workflow(*workflow_key)
        evidence = self._evidence(key, enrollment)
        judgement = judging.judge(enrollment, evidence, states, workflow, tracked=self._tracked)
        self._store(key, judgement)

    def _evidence(self, key: naive_judge.EnrollmentKey, enrollment: facts.Enrollment) -> Iterator[facts.Hit]:
        """Yield the contact's hits and the enrollment's own triggers; most hits come twice."""
        for hit in self._hits.values():
            whose = (hit.tenant_id, hit.workflow_id, hit.contact_id)
            if whose == (enrollment.tenant_id, enrollment.workflow_id, enrollment.contact_id):
                yield hit
        yield from (stored.hit for (*enrolled, _), stored in self._stored.items() if tuple(enrolled) == key)

    def _store(self, key: naive_judge.EnrollmentKey, judgement: judging.Judgement) -> None:
        for (*enrolled, goal_id), stored in self._stored.items():
            if tuple(enrolled) == key:
                self._stored[*key, goal_id] = Stored(stored.hit, revoked=True)
        for hit in judgement.achieved:
            self._stored[*key, hit.goal_id] = Stored(hit, revoked=False)
        self._satisfied.pop(key, None)
        if judgement.satisfaction is not None:
            hit = judgement.satisfaction.hit
            self._satisfied[key] = naive_judge.Satisfied(_evidence(hit), hit.goal_id, judgement.satisfaction.logic)


def _evidence(hit: facts.Hit) -> naive_judge.Walked:
    return naive_judge.Walked(hit.trigger.time, hit.trigger.source, hit.trigger.id)
