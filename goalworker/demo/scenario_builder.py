"""Builder of one scenario: events of one contact within a fraction of a second, and their expected outcome."""

import random
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

from msgspec import structs

from goalworker.demo import plans, records, tenant_setup
from goalworker.domain import events

SPAN: Final = timedelta(milliseconds=50)
"""Maximal length of a scenario."""

SOURCES: Final = ("/crm", "/shop", "/web")
_OCCURRENCE_IDS: Final = frozenset({"payment_id", "appointment_id", "submission_id"})
_NO_COUNT: Final = plans.Count()
_NO_COUNTS: Final[Mapping[str, plans.Count]] = {}
REPEATED: Final = 0.08
"""Share of the messages that are sent twice."""


class ScenarioBuilder:
    """Builder of events, `ms` milliseconds after the scenario begins, and of the outcomes that they must have."""

    def __init__(
        self, setup: tenant_setup.TenantSetup, tenant_id: str, number: int, begins: datetime, rng: random.Random
    ) -> None:
        self.setup = setup
        self.tenant_id = tenant_id
        self.number = number
        self.begins = begins
        self.rng = rng
        # The same ids in every tenant, so that mixing up tenants changes the outcome.
        self.contact_id = f"kontakt {number}:ü/%" if number % 20 == 0 else f"contact-{number}"
        self._count = 0
        self._enrollments: dict[plans.Enrollment, None] = {}

    def at(self, ms: float) -> datetime:
        return self.begins + timedelta(milliseconds=ms)

    # --- events ---

    def event(self, type_: str, time: float | datetime, /, **data: Any) -> plans.SourceEvent:
        self._count += 1
        moment = time if isinstance(time, datetime) else self.at(time)
        event_id = f"{self.contact_id}/{self._count}"
        present = {"contact_id": self.contact_id, **data}
        return plans.SourceEvent(self.tenant_id, self.rng.choice(SOURCES), event_id, type_, moment, present)

    def form(self, form_id: str, time: float | datetime) -> plans.SourceEvent:
        return self.event("form.submitted", time, form_id=form_id, submission_id=self._next_id("s"))

    def tag(self, time: float, **data: str) -> plans.SourceEvent:
        return self.event("contact.tag.added", time, **data)

    def payment(self, amount: str, currency: str, products: Sequence[str], time: float) -> plans.SourceEvent:
        data = {"amount": Decimal(amount), "currency": currency, "product_ids": products}
        return self.event("payment.completed", time, payment_id=self._next_id("p"), **data)

    def appointment(self, calendar_id: str, time: float) -> plans.SourceEvent:
        return self.event("appointment.booked", time, appointment_id=self._next_id("a"), calendar_id=calendar_id)

    def stage_reached(self, pipeline_id: str, stage_id: str, time: float, **data: str) -> plans.SourceEvent:
        return self.event(events.STAGE_CHANGED, time, pipeline_id=pipeline_id, stage_id=stage_id, **data)

    def again(self, event: plans.SourceEvent, time: float) -> plans.SourceEvent:
        """Return another event about the same occurrence."""
        return self.event(event.type, time, **event.data)

    def test(self, event: plans.SourceEvent) -> plans.SourceEvent:
        """Return an event that its sender marks as a test."""
        return structs.replace(event, data={**event.data, "test": True})

    def refund(self, paid: plans.SourceEvent, time: float, amount: str = "", currency: str = "") -> plans.SourceEvent:
        """Return a refund of a payment, of the whole one without amount."""
        data = {"amount": Decimal(amount), "currency": currency} if amount else {}
        return self.undone(events.PAYMENT_REFUNDED, paid, time, refund_id=self._next_id("r"), **data)

    def rebooked(self, booked: plans.SourceEvent, time: float) -> plans.SourceEvent:
        """Return an appointment that replaces another one."""
        event = self.appointment(booked.data["calendar_id"], time)
        event.data["replaces_appointment_id"] = booked.data["appointment_id"]
        return event

    def undone(self, type_: str, event: plans.SourceEvent, time: float, **data: Any) -> plans.SourceEvent:
        """Return a reversal of the occurrence of an event."""
        (name,) = _OCCURRENCE_IDS & event.data.keys()
        return self.event(type_, time, **{name: event.data[name]}, **data)

    def started(self, workflow_id: str, time: float | datetime, suffix: str = "", **data: Any) -> plans.SourceEvent:
        return self._lifecycle(events.ENROLLMENT_STARTED, workflow_id, time, suffix, **data)

    def ended(self, workflow_id: str, time: float, suffix: str = "") -> plans.SourceEvent:
        return self._lifecycle(events.ENROLLMENT_ENDED, workflow_id, time, suffix)

    def workflow_changed(self, type_: str, workflow_id: str, time: float | datetime) -> plans.SourceEvent:
        event = self.event(type_, time, workflow_id=workflow_id)
        del event.data["contact_id"]
        return event

    def deal_id(self, suffix: str) -> str:
        return f"deal-{self.number}{suffix}"

    def _next_id(self, prefix: str) -> str:
        return f"{prefix}-{self.number}-{self._count}"

    def enrollment_id(self, workflow_id: str, suffix: str = "") -> str:
        return f"{workflow_id}-{self.number}{suffix}"

    def _lifecycle(
        self, type_: str, workflow_id: str, time: float | datetime, suffix: str, **data: Any
    ) -> plans.SourceEvent:
        enrollment_id = self.enrollment_id(workflow_id, suffix)
        self._enrollments[plans.Enrollment(self.tenant_id, enrollment_id, workflow_id, self.contact_id)] = None
        return self.event(type_, time, workflow_id=workflow_id, enrollment_id=enrollment_id, **data)

    # --- outcomes ---

    def achieved(
        self,
        triggers: Mapping[str, plans.SourceEvent],
        suffix: str = "",
        counts: Mapping[str, plans.Count] = _NO_COUNTS,
    ) -> plans.Outcome:
        """Expect that each goal, given by its key, is achieved by its event, with the counts of those that count."""
        return plans.Outcome(
            tuple(
                plans.Achievement(
                    self.tenant_id,
                    self.enrollment_id(tenant_setup.GOAL_OF_KEY[key].workflow_id, suffix),
                    self.setup.goal_ids[self.tenant_id, key],
                    trigger.time,
                    trigger.source,
                    trigger.id,
                    *counts.get(key, _NO_COUNT),
                )
                for key, trigger in triggers.items()
            )
        )

    def exited(
        self,
        triggers: Mapping[str, plans.SourceEvent],
        suffix: str = "",
        counts: Mapping[str, plans.Count] = _NO_COUNTS,
    ) -> plans.Outcome:
        """Expect the achievements and an exit of the enrollment; the last goal completes the workflow."""
        achieved = self.achieved(triggers, suffix, counts)
        *_, completing = triggers
        workflow_id = tenant_setup.GOAL_OF_KEY[completing].workflow_id
        in_order = sorted(achieved.achieved, key=lambda achievement: (achievement.achieved_at, achievement.goal_id))
        command = plans.Exit(
            self.tenant_id,
            self.enrollment_id(workflow_id, suffix),
            workflow_id,
            self.contact_id,
            tenant_setup.logic(workflow_id),
            self.setup.goal_ids[self.tenant_id, completing],
            tuple(achievement.goal_id for achievement in in_order),
            triggers[completing].time,
        )
        return achieved + plans.Outcome(exited=(command,))

    def paid(self, workflow_id: str, *payments: plans.SourceEvent, back: str = "0") -> plans.Outcome:
        """Expect that each payment counts for the revenue of a workflow, and that `back` of each was taken back."""
        return plans.Outcome(
            payments=tuple(
                plans.Payment(
                    self.tenant_id, workflow_id, paid.data["currency"].upper(), paid.data["amount"], Decimal(back)
                )
                for paid in payments
            )
        )

    def revocable(self, reason: str, *keys: str) -> plans.Outcome:
        """Expect that the achievements of these goals may be revoked for this reason."""
        return plans.Outcome(
            revocable=tuple(
                plans.Revocation(
                    self.tenant_id,
                    self.enrollment_id(tenant_setup.GOAL_OF_KEY[key].workflow_id),
                    self.setup.goal_ids[self.tenant_id, key],
                    reason,
                )
                for key in keys
            )
        )

    # --- steps ---

    @property
    def enrollments(self) -> tuple[plans.Enrollment, ...]:
        """The enrollments in the events built so far."""
        return tuple(self._enrollments)

    def in_order(
        self,
        *source_events: plans.SourceEvent,
        outcome: plans.Outcome = plans.NOTHING,
        then: plans.Step | None = None,
        once: Literal["exited", "committed"] = "exited",
        needed: Collection[plans.SourceEvent] = (),
    ) -> plans.Step:
        """Send the events in this order, and some of them once more at the end.

        Exits need the start and the triggers; `needed` are other events that they need.
        """
        commands = tuple(command.key for command in outcome.exited)
        planned = [
            records.encode(event, self.rng, commands if event in needed else _exits_needing(event, outcome))
            for event in source_events
        ]
        for event in source_events:
            if self.rng.random() < REPEATED:
                planned.append(records.encode(event, self.rng))
        return plans.Step(tuple(planned), outcome, then, once, self.enrollments)

    def shuffled(
        self,
        *source_events: plans.SourceEvent,
        outcome: plans.Outcome = plans.NOTHING,
        then: plans.Step | None = None,
        once: Literal["exited", "committed"] = "exited",
        needed: Collection[plans.SourceEvent] = (),
    ) -> plans.Step:
        """Send the events in random order: an enrollment may come after its hits."""
        order = self.rng.sample(source_events, len(source_events))
        return self.in_order(*order, outcome=outcome, then=then, once=once, needed=needed)


def _exits_needing(event: plans.SourceEvent, outcome: plans.Outcome) -> tuple[plans.EnrollmentKey, ...]:
    """Return the enrollments that cannot exit before the worker has this event."""
    if event.type == events.ENROLLMENT_STARTED:
        own = (event.tenant_id, event.data["enrollment_id"])
        return tuple(command.key for command in outcome.exited if command.key == own)
    triggered = {
        (achievement.tenant_id, achievement.enrollment_id)
        for achievement in outcome.achieved
        if (achievement.source, achievement.event_id) == (event.source, event.id)
    }
    return tuple(command.key for command in outcome.exited if command.key in triggered)


def counted(occurrences: int, total_amount: str | None = None) -> plans.Count:
    """Return a count with complete evidence."""
    return plans.Count(occurrences, None if total_amount is None else Decimal(total_amount), evidence_complete=True)
