"""Goals: their criteria, their versions, and the logic of a workflow (contract rule 3.1)."""

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from goalworker import events

LOGICS: Final = ("any", "all", "never")
DEFAULT_LOGIC: Final = "any"


class Criteria(Struct, frozen=True, gc=False, omit_defaults=True):
    """The condition of a goal, whatever its type; only the fields of its type are set, none means any."""

    tag_id: str | None = None
    tag_name: str | None = None
    product_id: str | None = None
    min_amount: Decimal | None = None
    currency: str | None = None
    calendar_id: str | None = None
    service_id: str | None = None
    form_id: str | None = None
    pipeline_id: str | None = None
    stage_id: str | None = None


class GoalVersion(Struct, frozen=True, gc=False, array_like=True):
    """What a goal asked for from active_from (inclusive) to active_to (exclusive; None: until now)."""

    number: int
    criteria: Criteria
    is_active: bool
    active_from: datetime
    active_to: datetime | None = None


class Goal(Struct, frozen=True, gc=False):
    """A condition on a workflow, with every version that it ever had, oldest first."""

    tenant_id: str
    goal_id: UUID
    workflow_id: str
    goal_type: str
    created_at: datetime
    versions: tuple[GoalVersion, ...]

    @property
    def rank(self) -> tuple[datetime, UUID]:
        """Which of two goals that one event achieves is the completing one: the lower (contract rule 3.3)."""
        return (self.created_at, self.goal_id)


class LogicVersion(Struct, frozen=True, gc=False, array_like=True):
    """The logic of a workflow from a moment on, inclusive, until the next one."""

    logic: str
    active_from: datetime


class Workflow(Struct, frozen=True, gc=False):
    """What judgement must know of a workflow: every goal it ever had and every logic."""

    goals: tuple[Goal, ...] = ()
    logics: tuple[LogicVersion, ...] = ()


def version_at(goal: Goal, moment: datetime) -> GoalVersion | None:
    """Return the version of the goal in force at a moment, or None (contract rule 3.1)."""
    for version in reversed(goal.versions):
        if version.active_from <= moment:
            ended = version.active_to is not None and version.active_to <= moment
            return version if version.is_active and not ended else None
    return None


def logic_at(workflow: Workflow, moment: datetime) -> str:
    """Return the logic of a workflow at a moment; before anyone sets it, `any` (contract rule 3.3)."""
    for version in reversed(workflow.logics):
        if version.active_from <= moment:
            return version.logic
    return DEFAULT_LOGIC


def matches(criteria: Criteria, data: events.GoalData) -> bool:
    """Say whether an event's data meets the criteria of a goal of its type (contract section 3, Criteria)."""
    match data:
        case events.TagAdded():
            return _tag_matches(criteria, data)
        case events.PaymentCompleted():
            return _payment_matches(criteria, data)
        case events.AppointmentBooked():
            return criteria.calendar_id in (None, data.calendar_id) and criteria.service_id in (None, data.service_id)
        case events.FormSubmitted():
            return criteria.form_id == data.form_id
        case events.StageChanged():
            return criteria.pipeline_id == data.pipeline_id and criteria.stage_id == data.stage_id


def _tag_matches(criteria: Criteria, tag: events.TagAdded) -> bool:
    if criteria.tag_id is not None and tag.tag_id is not None:
        return criteria.tag_id == tag.tag_id
    if criteria.tag_name is None or tag.tag_name is None:
        return False
    return folded(criteria.tag_name) == folded(tag.tag_name)


def _payment_matches(criteria: Criteria, payment: events.PaymentCompleted) -> bool:
    return (
        (criteria.product_id is None or criteria.product_id in (payment.product_ids or ()))
        and (criteria.min_amount is None or payment.amount >= criteria.min_amount)
        and (criteria.currency is None or criteria.currency == payment.currency.upper())
    )


@lru_cache(maxsize=65_536)
def folded(name: str) -> str:
    """Return a tag's name as it is compared: NFKC, strip, casefold, NFKC (contract section 3, Criteria)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).strip().casefold())


# --- criteria as people and the database write them ---

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "tag_added": ("tag_id", "tag_name"),
    "purchase_made": ("product_id", "min_amount", "currency"),
    "appointment_booked": ("calendar_id", "service_id"),
    "form_submitted": ("form_id",),
    "pipeline_stage_reached": ("pipeline_id", "stage_id"),
}
ANY: Final[Mapping[str, str]] = {"purchase_made": "any_purchase", "appointment_booked": "any_appointment"}
ALL_REQUIRED: Final = frozenset({"form_submitted", "pipeline_stage_reached"})


class Fault(Struct, frozen=True):
    """One thing that is wrong with what somebody gave, where (a JSON pointer), and what would be right."""

    pointer: str
    detail: str


class CriteriaError(ValueError):
    """Criteria that cannot be; every fault at once."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.detail for fault in faults))
        self.faults = faults


EMPTY_CRITERIA: Final = "Goal criteria cannot be empty"


def criteria_of(goal_type: str, given: Mapping[str, Any]) -> Criteria:
    """Return the normalised criteria for what a person or the database wrote; numbers come as int or Decimal.

    Raises CriteriaError with every fault.
    """
    present = {name: value for name, value in given.items() if value is not None}
    any_field = ANY.get(goal_type)
    faults: list[Fault] = []
    if any_field is not None and not isinstance(present.get(any_field, False), bool):
        faults.append(_fault(any_field, "must be true or left out", present[any_field]))
    anything = any_field is not None and bool(present.pop(any_field, False))
    known = FIELDS[goal_type]
    faults += [Fault(f"/{pointer(name)}", _unknown(name, goal_type)) for name in present if name not in known]
    values: dict[str, Any] = {name: _value(name, present[name], faults) for name in known if name in present}
    if not faults:
        faults = _missing(goal_type, set(values), anything=anything)
    if faults:
        raise CriteriaError(faults)
    return Criteria(**values)


def criteria_as_json(goal_type: str, criteria: Criteria) -> dict[str, Any]:
    """Return criteria as people read and the database keeps them: normalised, amounts as strings."""
    fields = {name: getattr(criteria, name) for name in FIELDS[goal_type] if getattr(criteria, name) is not None}
    if criteria.min_amount is not None:
        fields["min_amount"] = events.plain(criteria.min_amount)
    return fields or {ANY[goal_type]: True}


def _missing(goal_type: str, fields: set[str], *, anything: bool) -> list[Fault]:
    if anything and fields:
        return [Fault(f"/{ANY[goal_type]}", f"`{ANY[goal_type]}` stands alone: leave it or the other fields out")]
    if not fields and not anything:
        return [Fault("", EMPTY_CRITERIA)]
    if goal_type in ALL_REQUIRED:
        absent = [name for name in FIELDS[goal_type] if name not in fields]
        return [Fault(f"/{name}", f"`{name}` is required for {goal_type}") for name in absent]
    return []


def _value(name: str, value: object, faults: list[Fault]) -> str | Decimal | None:
    if name == "min_amount":
        amount = _amount(value)
        if amount is None:
            faults.append(
                _fault(name, "must be a number of at least 0, at most 10^15, with at most 18 decimals", value)
            )
        return amount
    if not isinstance(value, str) or not events.is_text(value):
        faults.append(_fault(name, "must be text of 1 to 255 bytes without control characters", value))
        return None
    if name == "currency":
        if not (len(value) == 3 and value.isascii() and value.isalpha()):
            faults.append(_fault(name, 'must be three letters, such as "EUR"', value))
        return value.upper()
    return value


_EXACT: Final = Context(prec=64)
"""Room for every digit of an amount; the default context rounds to 28."""


def _amount(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    if isinstance(value, int) and abs(value) > events.AMOUNT_MAX:  # str() refuses a number of 5,000 digits
        return None
    amount = events.amount_of_text(value) if isinstance(value, str) else events.amount_of_number(str(value))
    if amount is None:
        return None
    return amount.quantize(Decimal(1)) if amount == amount.to_integral_value() else amount.normalize(_EXACT)


def _unknown(name: str, goal_type: str) -> str:
    fields = [*FIELDS[goal_type], *([ANY[goal_type]] if goal_type in ANY else [])]
    return f"`{printable(name[:64])}` is no criterion of {goal_type}; it takes {', '.join(fields)}"


def _fault(name: str, rule: str, value: object) -> Fault:
    return Fault(f"/{name}", f"`{name}` {rule}; got {_shown(value)}")


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{printable(value[:64])}"'
        case int() if value.bit_length() > 256:
            return "a number of many digits"
        case int() | float() | Decimal():
            return str(value)[:64]
        case Mapping():
            return "an object"
        case _:
            return "a list"


def printable(text: str) -> str:
    """Return a text that can be encoded and shown: lone surrogates and control characters are spelt out."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def pointer(name: str) -> str:
    return name.encode(errors="backslashreplace").decode().replace("~", "~0").replace("/", "~1")
