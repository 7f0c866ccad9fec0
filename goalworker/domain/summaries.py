"""Summaries: an explanation as one sentence that a support person can paste (contract section 7)."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from msgspec import Struct

from goalworker.domain import clauses, events, facts, gates, goals, judging, occurrences, phrases, tracing
from goalworker.domain.criteria import Criteria
from goalworker.domain.explanations import ContactFacts, Run
from goalworker.domain.faults import printable
from goalworker.domain.sightings import Sighting, data_of


class Told(Struct, frozen=True):
    """Subject of a sentence: the event that came furthest, and the judgement if there was an enrollment."""

    known: ContactFacts
    goal: goals.Goal
    reason: str
    answer: str
    seen: Sighting | None
    run: Run | None = None
    case: tracing.Case | None = None
    trace: tracing.Trace | None = None


def summary(told: Told) -> str:
    """Return the sentence."""
    return _SENTENCES[told.reason](told)


# --- words ---


def _day(told: Told, moment: datetime) -> str:
    at = moment.astimezone(UTC)
    year = "" if at.year == told.known.asked_at.year else f" {at.year}"
    return f"{at.day} {at:%B}{year}"


def _moment(told: Told, moment: datetime) -> str:
    time = moment.astimezone(UTC).time().isoformat("auto")
    return f"{_day(told, moment)}, {time} UTC"


def _contact(told: Told) -> str:
    return printable(told.known.contact_id)


def _workflow(told: Told) -> str:
    return printable(told.known.workflow_id)


def _deed(told: Told, data: events.GoalData) -> str:
    """Return what the contact did, as the event says it."""
    return f"{_contact(told)} {phrases.deed(data)}"


def _when(told: Told, seen: Sighting, when: Callable[[Told, datetime], str] = _day) -> str:
    """Return what the contact did, when, and under which name: the beginning of most sentences."""
    data = data_of(seen.event)
    return f"{_deed(told, data)} on {when(told, seen.event.time)} ({phrases.name_of(data, seen.event.id)})"


def _event(told: Told) -> Sighting:
    if told.seen is None:
        raise TypeError(f"{told.reason} is said of an event")
    return told.seen


def _enrollment(told: Told) -> facts.Enrollment:
    if told.run is None:
        raise TypeError(f"{told.reason} is said of an enrollment")
    return told.run.enrollment


def _enrolled(told: Told) -> str:
    return f"the enrollment {printable(_enrollment(told).enrollment_id)}"


# --- a sentence for each reason ---


def _not_enrolled(told: Told) -> str:
    nobody = f"{_contact(told)} was never enrolled in {_workflow(told)}"
    if told.run is not None:
        nobody = f"no start of {_enrolled(told)} is known, only its end"
    if told.seen is None or not told.seen.is_hit:
        return f"{nobody[0].upper() if told.run else nobody[0]}{nobody[1:]}, so no event achieves the goal."
    return f"{_when(told, told.seen)}, which meets the goal, but {nobody}."


def _no_event(told: Told) -> str:
    name = phrases.NAMES[told.goal.goal_type]
    if told.seen is not None:
        return f"{_when(told, told.seen)}, which meets the goal, but no worker has judged it: it is new, or came late."
    since = told.known.coverage.history_from
    if since is None:
        return (
            f"Nobody looked: no {name} of {_contact(told)} meets the goal, and events that miss it are not kept here."
        )
    found = f"No {name} of {_contact(told)} was found since"
    began = _enrollment(told).enrolled_at
    if told.answer == gates.NOT_ACHIEVED and began is not None:
        return f"{found} {_enrolled(told)} began on {_day(told, began)}."
    if began is not None and since <= began:
        until = told.known.coverage.history_until or told.known.asked_at
        return f"{found} {_enrolled(told)} began until {_moment(told, until)}; what came after is not kept yet."
    before = "is no longer kept" if told.known.coverage.is_cut else "was not kept yet"
    return f"{found} {_day(told, since)}; what came before {before}."


def _goal_not_in_force(told: Told) -> str:
    seen, versions = _event(told), told.goal.versions
    before = [version for version in versions if version.active_from <= seen.event.time]
    happened = _when(told, seen, _moment)
    if not before:
        return f"{happened}, before the goal was made on {_moment(told, versions[0].active_from)}."
    if before[-1].is_active and before[-1].active_to is not None:
        return f"{happened}, after the goal was deleted on {_moment(told, before[-1].active_to)}."
    return f"{happened}, while the goal was inactive since {_moment(told, before[-1].active_from)}."


_ASKED: Final[Mapping[str, str]] = {
    "/tag_id": "the tag {}",
    "/tag_name": "the tag {}",
    "/product_id": "the product {}",
    "/min_amount": "at least {}",
    "/currency": "a payment in {}",
    "/calendar_id": "the calendar {}",
    "/service_id": "the service {}",
    "/form_id": "the form {}",
    "/pipeline_id": "the pipeline {}",
    "/stage_id": "the stage {}",
}


def _asked(clause: clauses.Clause) -> str:
    expected = (clause.expected,) if isinstance(clause.expected, str) else clause.expected
    if clause.op == clauses.AT_LEAST:
        expected = (phrases.money(Decimal(str(clause.expected)), like=Decimal(str(clause.actual))),)
    if clause.pointer == "/tag_name":
        expected = (f'"{expected[0]}"',)
    return _ASKED[clause.pointer].format(phrases.listed(expected, last="or"))


def _criteria_not_met(told: Told) -> str:
    seen = _event(told)
    data, missed = data_of(seen.event), [clause for clause in seen.clauses if not clause.result]
    bought = ""
    if isinstance(data, events.PaymentCompleted) and any(clause.pointer == "/product_id" for clause in missed):
        bought = f" for {phrases.listed(data.product_ids)}" if data.product_ids else " for no product"
    happened = f"{_deed(told, data)}{bought} on {_day(told, seen.event.time)} ({phrases.name_of(data, seen.event.id)})"
    return f"{happened}; the goal asks for {' and '.join(map(_asked, missed))}."


def _before_enrollment(told: Told) -> str:
    began = _enrollment(told).enrolled_at or facts.BEGINNING
    return f"{_when(told, _event(told), _moment)}, before {_enrolled(told)} began on {_moment(told, began)}."


def _after_end(told: Told) -> str:
    ended = _enrollment(told).ended_at or facts.BEGINNING
    return f"{_when(told, _event(told), _moment)}, when {_enrolled(told)} had ended on {_moment(told, ended)}."


def _after_deadline(told: Told) -> str:
    seconds = _criteria(told).deadline or 0
    began = _enrollment(told).enrolled_at or facts.BEGINNING
    return (
        f"{_when(told, _event(told), _moment)}, more than {phrases.duration(seconds)} after {_enrolled(told)} began on "
        f"{_moment(told, began)}."
    )


def _founding_event(told: Told) -> str:
    return f"{_when(told, _event(told))}, but that started {_enrolled(told)} and so does not count for it."


def _not_correlated(told: Told) -> str:
    seen, field = _event(told), _criteria(told).correlate_by or ""
    actual, expected = getattr(seen.event.data, field), _enrollment(told).correlation_id
    said = f"whose {field} is {printable(actual)}" if actual else f"without a {field}"
    wanted = "has no correlation_id" if expected is None else f"asks for {printable(expected)}"
    return f"{_when(told, seen)}, {said}; {_enrolled(told)} {wanted}."


def _repeats_older_occurrence(told: Told) -> str:
    seen, others = _event(told), _occurrence(told)
    happened, first = _when(told, seen, _moment), others[0].trigger
    if first.order == seen.order:
        return f"{happened}, which repeats an older event."
    what = phrases.NAMES[told.goal.goal_type]
    return f"{happened}, which repeats the {what} of {_moment(told, first.time)}, so it does not count again."


_UNDONE: Final[Mapping[str, str]] = {
    events.PAYMENT_REFUNDED: "it was refunded",
    events.PAYMENT_FAILED: "the payment failed",
    events.APPOINTMENT_CANCELLED: "it was cancelled",
    events.FORM_REJECTED: "it was rejected",
}


def _reversed(told: Told) -> str:
    seen = _event(told)
    subjects = {name for hit in _occurrence(told) for name in occurrences.names_of(hit.trigger.data)}
    undoing = events.GOAL_TYPE_TABLE[told.goal.goal_type].reversals
    own = [one for one in told.known.reversals if one.subject_id in subjects and one.type in undoing]
    last = max(own, key=lambda one: one.order)
    return f"{_when(told, seen)}, but {_UNDONE[last.type]} on {_day(told, last.time)}."


def _below_threshold(told: Told) -> str:
    seen, criteria = _event(told), _criteria(told)
    counting = () if told.trace is None else told.trace.counting[told.goal.goal_id]
    within = "" if criteria.within is None else f" within {phrases.duration(criteria.within)}"
    name = phrases.NAMES[told.goal.goal_type]
    last = f"the last one on {_day(told, seen.event.time)} ({phrases.name_of(data_of(seen.event), seen.event.id)})"
    if criteria.total_amount is not None:
        total = _total(counting, criteria.currency)
        paid = phrases.money(total, like=criteria.total_amount)
        asked = phrases.money(criteria.total_amount, like=total)
        currency = criteria.currency
        return f"{_contact(told)} paid {paid} {currency}, {last}; the goal asks for {asked} {currency}{within}."
    asked = f"{criteria.times}{within}"
    return f"{_contact(told)} has {phrases.counted(len(counting), name)}, {last}; the goal asks for {asked}."


def _total(counting: Iterable[facts.Hit], currency: str | None) -> Decimal:
    total = Decimal(0)
    for hit in counting:
        details = occurrences.details_of(hit.trigger.data)
        if (details.currency or "").upper() == currency:
            total = occurrences.EXACT.add(total, details.amount or Decimal(0))
    return total


def _stopped_before(told: Told) -> str:
    satisfaction = None if told.trace is None else told.trace.judgement.satisfaction
    stop = "" if satisfaction is None else f" on {_moment(told, satisfaction.hit.trigger.time)}"
    return f"{_when(told, _event(told), _moment)}, when {_workflow(told)} had reached its goal already{stop}."


def _achieved_by(told: Told) -> str:
    return f"{_when(told, _event(told))} and achieved the goal"


def _waits_for_activation(told: Told) -> str:
    return f"{_achieved_by(told)}; the exit waits until {_workflow(told)} is activated."


def _waits_for_backfill(told: Told) -> str:
    return f"{_achieved_by(told)}, as a backfill found; backfills send no exit unless they are told to."


def _achieved(told: Told) -> str:
    run, satisfaction = told.run, None if told.trace is None else told.trace.judgement.satisfaction
    if run is not None and run.sent_at is not None:
        return f"{_achieved_by(told)}; the exit was sent on {_moment(told, run.sent_at.replace(microsecond=0))}."
    if satisfaction is None:
        logic = goals.logic_at(told.known.workflow, _event(told).event.time)
        why = "only measures" if logic == "never" else "asks for all of its goals"
        return f"{_achieved_by(told)}; no exit is due, because {_workflow(told)} {why}."
    if run is not None and run.enrollment.ended_at is not None:
        return f"{_achieved_by(told)}; no exit was due, because {_enrolled(told)} has ended."
    return f"{_achieved_by(told)}; the exit is about to be sent."


_SENTENCES: Final[Mapping[str, Callable[[Told], str]]] = {
    gates.NOT_ENROLLED: _not_enrolled,
    gates.NO_EVENT: _no_event,
    gates.GOAL_NOT_IN_FORCE: _goal_not_in_force,
    gates.CRITERIA_NOT_MET: _criteria_not_met,
    gates.BEFORE_ENROLLMENT: _before_enrollment,
    gates.AFTER_END: _after_end,
    gates.AFTER_DEADLINE: _after_deadline,
    gates.FOUNDING_EVENT: _founding_event,
    gates.NOT_CORRELATED: _not_correlated,
    gates.REPEATS_OLDER_OCCURRENCE: _repeats_older_occurrence,
    gates.REVERSED: _reversed,
    gates.BELOW_THRESHOLD: _below_threshold,
    gates.STOPPED_BEFORE: _stopped_before,
    gates.WAITS_FOR_ACTIVATION: _waits_for_activation,
    gates.WAITS_FOR_BACKFILL: _waits_for_backfill,
    gates.ACHIEVED: _achieved,
}


def _criteria(told: Told) -> Criteria:
    version = _event(told).version
    if version is None:
        raise TypeError(f"{told.reason} is said of an event with a version")
    return version.criteria


def _occurrence(told: Told) -> tuple[facts.Hit, ...]:
    """Return the hits of the event's occurrence, in the order of the walk."""
    seen, hits = _event(told), () if told.case is None else told.case.hits
    own = judging.hits_by_goal([hit for hit in hits if hit.goal_id == told.goal.goal_id])
    for occurrence in occurrences.occurrences(told.goal.goal_type, own[0] if own else [], told.known.reversals):
        if any(hit.trigger.order == seen.order for hit in occurrence.hits):
            return occurrence.hits
    return ()
