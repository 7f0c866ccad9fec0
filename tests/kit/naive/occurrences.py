"""Rule 2, the window of an enrollment, and rule 3, occurrences."""

from datetime import datetime, timedelta
from typing import NamedTuple

from goalworker.domain import events, goals
from tests.kit.naive.facts import Facts
from tests.kit.naive.hits import hits, settings_at
from tests.kit.naive.rules import rule

Occurrence = frozenset[events.Event]
"""Hits of one goal whose events speak of the same thing."""


class Case(NamedTuple):
    """One goal asked of one enrollment, and all hits of that goal by the contact, whenever, by occurrence."""

    facts: Facts
    goal: goals.Goal
    occurrences: set[Occurrence]


def case_of(facts: Facts, goal: goals.Goal) -> Case:
    """Rule 3: All this is asked of the events that hit the goal."""
    hitting = {event for event in facts.happened if hits(event, goal)}
    return Case(facts, goal, {all_of_one(event, hitting) for event in hitting})


# --- rule 2: the window ---


def is_in_window(case: Case, event: events.Event) -> bool:
    """Rule 2: A hit counts from enrolled_at until ended_at or the deadline, correlated, and not as the founding one."""
    return (
        not is_before_window(case.facts, event)
        and not is_after_end(case.facts, event)
        and is_before_deadline(case, event)
        and is_correlated(case, event)
        and not is_founding(case.facts, event)
        and not is_of_founding_occurrence(case, event)
    )


@rule(lambda facts, event: False)
def is_before_window(facts: Facts, event: events.Event) -> bool:
    """Rule 2: enrolled_at <= E.time; without started there cannot be a window."""
    return facts.enrolled_at is None or not begins(window_start(facts.enrolled_at, event), event)


@rule(lambda start, event: start < event.time)
def begins(start: datetime, event: events.Event) -> bool:
    """Rule 2: enrolled_at <= E.time."""
    return start <= event.time


@rule(lambda enrolled_at, event: enrolled_at)
def window_start(enrolled_at: datetime, event: events.Event) -> datetime:
    """Rule 2: An E.time without fraction of a second is compared with enrolled_at cut to the second."""
    return enrolled_at if event.time.microsecond else enrolled_at.replace(microsecond=0)


@rule(lambda facts, event: False)
def is_after_end(facts: Facts, event: events.Event) -> bool:
    """Rule 2: E.time < ended_at (no ended_at: open)."""
    return facts.ended_at is not None and not is_earlier(event, facts.ended_at)


@rule(lambda event, end: event.time <= end)
def is_earlier(event: events.Event, end: datetime) -> bool:
    """Rule 2: E.time < ended_at."""
    return event.time < end


@rule(lambda case, event: True)
def is_before_deadline(case: Case, event: events.Event) -> bool:
    """Rule 2: `deadline`: E.time <= enrolled_at + deadline."""
    seconds = settings_at(case.goal, event).deadline
    if seconds is None:
        return True
    enrolled_at = case.facts.enrolled_at
    return enrolled_at is not None and is_by(enrolled_at + timedelta(seconds=seconds), event)


@rule(lambda deadline, event: event.time < deadline)
def is_by(deadline: datetime, event: events.Event) -> bool:
    """Rule 2: ... E.time <= enrolled_at + deadline."""
    return event.time <= deadline


@rule(lambda case, event: True)
def is_correlated(case: Case, event: events.Event) -> bool:
    """Rule 2: `correlate_by`: the event's field of that name equals the enrollment's `correlation_id`."""
    field = settings_at(case.goal, event).correlate_by
    if field is None:
        return True
    value = getattr(event.data, field)
    return value is not None and value == case.facts.correlation_id


@rule(lambda facts, event: False)
def is_founding(facts: Facts, event: events.Event) -> bool:
    """Rule 2: The event named by `started_by` never counts for the enrollment that it started."""
    named = facts.started_by
    return named is not None and (event.source, event.id) == (named.source, named.id)


@rule(lambda case, event: False)
def is_of_founding_occurrence(case: Case, event: events.Event) -> bool:
    """Rule 2: ... and neither does another event of the same occurrence."""
    named = case.facts.started_by
    others = {(other.source, other.id) for other in occurrence(case, event) - {event}}
    return named is not None and (named.source, named.id) in others


# --- rule 3: occurrences ---


def occurrence(case: Case, event: events.Event) -> Occurrence:
    """Return the hits of the goal whose events are of one occurrence with this one."""
    return next(hits_of_one for hits_of_one in case.occurrences if event in hits_of_one)


def all_of_one(event: events.Event, hitting: set[events.Event]) -> Occurrence:
    """Gather the hits that are of one occurrence with this one, or with one that is, and so on."""
    found = {event}
    while more := {hit for hit in hitting - found if any(is_same_occurrence(hit, one) for one in found)}:
        found |= more
    return frozenset(found)


def is_same_occurrence(one: events.Event, other: events.Event) -> bool:
    """Ask by payment_id, by appointment, by submission_id; any other event is an occurrence of its own."""
    return is_same_payment(one, other) or is_same_appointment(one, other) or is_same_submission(one, other)


@rule(lambda one, other: False)
def is_same_payment(one: events.Event, other: events.Event) -> bool:
    """Rule 3: For payments by payment_id."""
    return payment_id(one) is not None and payment_id(one) == payment_id(other)


def payment_id(event: events.Event) -> str | None:
    """Return the payment that a hit speaks of."""
    return event.data.payment_id if isinstance(event.data, events.PaymentCompleted) else None


@rule(lambda one, other: False)
def is_same_appointment(one: events.Event, other: events.Event) -> bool:
    """Rule 3: For appointments by appointment_id, joined with the one it replaces, and so on (a chain)."""
    return bool(appointments(one) & appointments(other))


@rule(lambda event: {event.data.appointment_id} if isinstance(event.data, events.AppointmentBooked) else set())
def appointments(event: events.Event) -> set[str]:
    """Rule 3: Joined with the one it replaces."""
    if not isinstance(event.data, events.AppointmentBooked):
        return set()
    replaced = event.data.replaces_appointment_id
    return {event.data.appointment_id} if replaced is None else {event.data.appointment_id, replaced}


@rule(lambda one, other: False)
def is_same_submission(one: events.Event, other: events.Event) -> bool:
    """Rule 3: For forms by submission_id where there is one."""
    submissions = [event.data.submission_id for event in (one, other) if isinstance(event.data, events.FormSubmitted)]
    return len(submissions) == 2 and submissions[0] is not None and submissions[0] == submissions[1]
