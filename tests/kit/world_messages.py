"""The messages of small worlds: events, reversals, the lifecycle of enrollments and workflows."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from msgspec import structs

from goalworker.domain import events
from tests.kit import worlds
from tests.kit.worlds import CONTACTS, NUMBERS, TENANTS, WORKFLOWS, Source, World, at

# --- events ---


def goal_data(source: Source, goal_type: str, contact_id: str) -> events.GoalData:
    """Draw the `data` of an event that goals of a type look at."""
    return structs.replace(_GOAL_DATA[goal_type](source, contact_id), correlation_id=correlation(source, goal_type))


def correlation(source: Source, goal_type: str) -> str | None:
    """Draw what an enrollment and its events may share."""
    return source.some(60, worlds.CORRELATIONS)


def _tag(source: Source, contact: str) -> events.GoalData:
    by = source.one(("id", "name", "both"))
    return events.TagAdded(
        contact,
        None if by == "name" else source.mostly(worlds.TAG_IDS),
        None if by == "id" else source.one(worlds.TAG_NAMES),
    )


def _payment(source: Source, contact: str) -> events.GoalData:
    amounts = worlds.AMOUNTS if source.chance(20) else worlds.PRICES
    currency = source.one(worlds.CURRENCIES)
    products = tuple(source.several(worlds.PRODUCTS, 0, 3)) if source.chance(50) else None
    return events.PaymentCompleted(contact, _id(source, "pay"), source.mostly(amounts), currency, products)


def _booking(source: Source, contact: str) -> events.GoalData:
    return events.AppointmentBooked(
        contact,
        _id(source, "app"),
        source.often(("cal-1", "cal-2", "cal-3")) if source.chance(70) else None,
        source.often(("s1", "s2", "s3")) if source.chance(70) else None,
        replaces_appointment_id=_id(source, "app") if source.chance(35) else None,
    )


def _form(source: Source, contact: str) -> events.GoalData:
    submission = _id(source, "sub") if source.chance(75) else None
    return events.FormSubmitted(contact, source.often(("f1", "f2", "f3")), submission)


def _stage(source: Source, contact: str) -> events.GoalData:
    return events.StageChanged(
        contact,
        source.often(("pl-1", "pl-2", "pl-3")),
        source.often(("st-1", "st-2", "st-3")),
        source.some(30, ("st-9",)),
        _id(source, "deal") if source.chance(75) else None,
    )


_GOAL_DATA: Final[Mapping[str, Callable[[Source, str], events.GoalData]]] = {
    "tag_added": _tag,
    "purchase_made": _payment,
    "appointment_booked": _booking,
    "form_submitted": _form,
    "pipeline_stage_reached": _stage,
}


def _own_id(source: Source, kind: str) -> str:
    """Draw an id that often belongs to one story alone."""
    return f"{kind}-{source.one(('4', '4', *NUMBERS))}"


def _id(source: Source, kind: str) -> str:
    return f"{kind}-{source.one(NUMBERS)}"


# --- reversals ---


def reversal_data(source: Source, goal_type: str, contact_id: str) -> events.ReversalData | None:
    """Draw the `data` of a reversal of what goals of a type look at, where there are any."""
    match goal_type:
        case "purchase_made":
            payment_id = _id(source, "pay")
            has_failed = source.chance(30)
            return (
                events.PaymentFailed(contact_id, payment_id) if has_failed else refund(source, contact_id, payment_id)
            )
        case "appointment_booked":
            return events.AppointmentCancelled(contact_id, _id(source, "app"))
        case "form_submitted":
            return events.FormRejected(contact_id, _id(source, "sub"))
        case _:
            return None


def refund(source: Source, contact_id: str, payment_id: str) -> events.ReversalData:
    """Draw a refund: whole or in part, in the right currency or another, some of them told twice."""
    amount: Decimal | None = source.one((*map(Decimal, (50, 50, 60, 40, 100, 150)), None))
    currency = None if amount is None else source.one(("EUR", "EUR", "eur", "USD"))
    refund_id = source.one(("r1", "r1", "r1", "r2")) if source.chance(80) else None
    return events.PaymentRefunded(contact_id, payment_id, refund_id, amount, currency)


_EVENT_TYPE_OF_DATA: Final[Mapping[type, str]] = {
    **{row.data: row.event_type for row in events.GOAL_TYPE_TABLE.values()},
    **{data: name for name, data in events.REVERSAL_DATA.items()},
}

Sent = tuple[str, datetime, Any]
"""Tenant, moment and data of an event."""


def as_events(source: Source, sent: Sequence[Sent]) -> tuple[events.Event, ...]:
    """Give each an identity of its own; ids follow neither time nor number ("10" comes before "9")."""
    numbers = source.several(range(8, 8 + len(sent)), len(sent), len(sent))
    return tuple(
        events.Event(tenant_id, source.one(worlds.SOURCES), str(number), _EVENT_TYPE_OF_DATA[type(data)], time, data)
        for number, (tenant_id, time, data) in zip(numbers, sent, strict=True)
    )


def contact_events(
    source: Source,
    types: Sequence[str],
    tenants: Sequence[str] = TENANTS,
    contacts: Sequence[str] = CONTACTS,
    least: int = 0,
) -> tuple[events.Event, ...]:
    """Draw events of the five goal topics, each with an identity of its own."""
    return as_events(source, _events_sent(source, types, tenants, contacts, least))


def _events_sent(
    source: Source, types: Sequence[str], tenants: Sequence[str], contacts: Sequence[str], least: int
) -> list[Sent]:
    return [
        (source.mostly(tenants), moment(source), goal_data(source, source.mostly(types), source.mostly(contacts)))
        for _ in range(source.number(least, 7))
    ]


def moment(source: Source) -> datetime:
    """Draw a moment of the small worlds."""
    return at(source.tick())


# --- stories: what happens to one payment, appointment or submission ---


def story(source: Source, goal_type: str, contact_id: str) -> list[tuple[int, Any]]:
    """Draw what happens to one occurrence, mostly in the order in which it makes sense, each with its tick."""
    told = _STORIES[goal_type](source, contact_id) if goal_type in _STORIES else []
    ticks = [source.tick() for _ in told]
    return list(zip(ticks if source.chance(20) else sorted(ticks), told, strict=True))


def _payment_story(source: Source, contact: str) -> list[Any]:
    """Draw instalments, or a payment that is refunded bit by bit, or fails, and is perhaps paid again."""
    if source.chance(30):
        return [_instalment(source, contact, number) for number in NUMBERS]
    paid = events.PaymentCompleted(contact, _own_id(source, "pay"), source.mostly(worlds.PRICES), "EUR", ("p1",))
    again = structs.replace(paid, amount=source.mostly(worlds.PRICES))
    refunds = [refund(source, contact, paid.payment_id) for _ in range(3)]
    refunded = events.PaymentRefunded(contact, paid.payment_id)
    whole = source.one(
        (events.PaymentRefunded(contact, paid.payment_id), events.PaymentFailed(contact, paid.payment_id))
    )
    return source.one(
        (
            [paid, *refunds],
            [paid, *refunds],
            [paid, whole, again],
            [paid, whole, again],
            [paid, whole, again],
            [paid, *refunds[:2], again],
            [paid, refunded, again, *refunds[:2]],
            [paid, refunded, again, *refunds[:2]],
        )
    )


def _instalment(source: Source, contact: str, number: str) -> events.PaymentCompleted:
    amount, currency = source.one(worlds.PRICES), source.one(("EUR", "USD"))
    return events.PaymentCompleted(contact, f"pay-{number}", amount, currency, ("p1",))


def _booking_story(source: Source, contact: str) -> list[Any]:
    """Draw a chain of appointments: moved, forked, in a circle or of one that replaces itself, and then cancelled."""
    numbers = source.one((("4", "5", "6"), ("4", "5", "6"), NUMBERS))
    shape = [
        (f"app-{numbers[one - 1]}", None if replaced == 0 else f"app-{numbers[replaced - 1]}")
        for one, replaced in source.one(_SHAPES)
    ]
    booked = [
        events.AppointmentBooked(contact, name, "cal-1", "s1", replaces_appointment_id=replaces)
        for name, replaces in shape
    ]
    names = [name for name, _ in reversed(shape)]
    return [*booked, *(events.AppointmentCancelled(contact, name) for name in names if not source.chance(40))]


_SHAPES: Final = (
    ((1, 0),),
    ((1, 0), (2, 1)),
    ((1, 0), (2, 1), (3, 1)),
    ((1, 0), (2, 1), (3, 1)),
    ((2, 1), (3, 1)),
    ((2, 1), (3, 1)),
    ((1, 0), (2, 1), (3, 2)),
    ((1, 2), (2, 1)),
    ((1, 1),),
)
"""Appointments by number, each with the one it replaces (0: none)."""


def _form_story(source: Source, contact: str) -> list[Any]:
    """Draw a submission that is told twice, or is rejected and perhaps sent again."""
    submission = _own_id(source, "sub")
    form, undone = events.FormSubmitted(contact, "f1", submission), events.FormRejected(contact, submission)
    return source.one(([form, form], [form, undone], [form, undone, form], [form, form, undone]))


_STORIES: Final[Mapping[str, Callable[[Source, str], list[Any]]]] = {
    "purchase_made": _payment_story,
    "appointment_booked": _booking_story,
    "form_submitted": _form_story,
}


# --- the lifecycle ---


def lifecycles(
    source: Source, happened: Sequence[events.Event] = (), tenants: Sequence[str] = TENANTS
) -> tuple[events.Event, ...]:
    """Draw messages of the lifecycle topic: starts, most of them early, a few ends, a few (de)activations."""
    keys = [(tenant_id, enrollment_id) for tenant_id in tenants for enrollment_id in worlds.ENROLLMENTS]
    drawn = [_started(source, key, happened) for key in keys if not source.chance(5 if key == keys[0] else 20)]
    drawn += [_started(source, source.mostly(keys), happened) for _ in range(source.number(0, 2))]
    drawn += [_ended(source, source.mostly(keys)) for _ in range(source.one((0, 0, 1)))]
    drawn += _states(source, tenants)
    return tuple(structs.replace(message, id=f"lifecycle-{number}") for number, message in enumerate(drawn))


def _started(source: Source, key: tuple[str, str], happened: Sequence[events.Event]) -> events.Event:
    workflow_id, contact_id = worlds.ENROLLMENTS[key[1]]
    theirs = [event for event in happened if (event.tenant_id, _contact(event)) == (key[0], contact_id)]
    founder = source.one(theirs) if theirs and source.chance(25) else None
    ids_of_theirs = [name for event in theirs for name in _names(event)]
    known = source.one([*worlds.CORRELATIONS, *ids_of_theirs]) if source.chance(70) else None
    data = events.EnrollmentChanged(
        workflow_id,
        key[1],
        contact_id,
        correlation_id=known,
        started_by=None if founder is None else events.EventReference(founder.source, founder.id),
    )
    return events.Event(
        key[0], "/engine", "", events.ENROLLMENT_STARTED, at(source.one((-1, -1, -1, 0, *source.ticks[:4]))), data
    )


def _contact(event: events.Event) -> str:
    return str(getattr(event.data, "contact_id", None))


def _names(event: events.Event) -> list[str]:
    """Return the ids by which an enrollment may be correlated with an event."""
    fields = ("deal_id", "payment_id", "appointment_id", "submission_id")
    return [str(name) for field in fields if (name := getattr(event.data, field, None)) is not None]


def _ended(source: Source, key: tuple[str, str]) -> events.Event:
    workflow_id, contact_id = worlds.ENROLLMENTS[key[1]]
    data = events.EnrollmentChanged(workflow_id, key[1], contact_id)
    return events.Event(key[0], "/engine", "", events.ENROLLMENT_ENDED, at(source.tick(4)), data)


def _states(source: Source, tenants: Sequence[str]) -> list[events.Event]:
    """Draw a pause, its end or one that another pause of the same moment overrules, and other (de)activations."""
    both = (events.WORKFLOW_ACTIVATED, events.WORKFLOW_DEACTIVATED)
    told: list[tuple[int, Sequence[str]]] = []
    if source.chance(60):
        told.append((source.one((-1, *source.ticks[:5])), both if source.chance(40) else both[1:]))
        told += [(source.tick(5), both)] if source.chance(40) else []
    drawn = [_state(source, tenants[:1], WORKFLOWS[:1], at(tick), type_) for tick, types in told for type_ in types]
    more = [(moment(source), source.one(both)) for _ in range(source.one((0, 0, 1, 2)))]
    return [*drawn, *(_state(source, tenants, WORKFLOWS, when, type_) for when, type_ in more)]


def _state(
    source: Source, tenants: Sequence[str], workflows: Sequence[str], when: datetime, type_: str
) -> events.Event:
    data = events.WorkflowChanged(source.mostly(workflows))
    return events.Event(source.mostly(tenants), "/engine", "", type_, when, data)


# --- a whole world ---


def world(source: Source, tenants: Sequence[str] = TENANTS) -> World:
    """Draw a whole small world; its messages stand in no order that matters."""
    types, source = worlds.goal_types(source), source.with_few_ticks()
    sent = _events_sent(source, types, tenants, CONTACTS, 2)
    for _ in range(source.one((1, 2, 3, 3))):
        tenant_id, contact_id, goal_type = source.mostly(tenants), source.mostly(CONTACTS), source.mostly(types)
        sent += [(tenant_id, at(tick), data) for tick, data in story(source, goal_type, contact_id)]
    for _ in range(source.number(0, 1)):
        undoing = reversal_data(source, source.mostly(types), source.mostly(CONTACTS))
        sent += [] if undoing is None else [(source.mostly(tenants), moment(source), undoing)]
    happened = as_events(source, sent)
    messages = (*happened, *lifecycles(source, happened, tenants))
    return World(
        worlds.goal_sets(source, types, tenants, least=2, most=3), worlds.logic_maps(source, tenants), messages
    )
