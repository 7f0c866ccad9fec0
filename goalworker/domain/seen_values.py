"""Values that events carry in the fields that goals ask about, counted by tenant, type, field and value (section 7)."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from goalworker.domain import events

STAGE: Final = "stage"
"""The field whose values are a pipeline and a stage."""
_BETWEEN: Final = "\x1f"  # which no id contains

FieldOfType = tuple[str, str]
"""(CloudEvents type, field)."""
ValueOfTenant = tuple[str, str]
"""(tenant_id, value)."""
Labels = dict[ValueOfTenant, str]
"""Latest names of tags, by tenant and tag_id."""


def stage_value(pipeline_id: str, stage_id: str) -> str:
    """Return a pipeline and a stage as one value."""
    return f"{pipeline_id}{_BETWEEN}{stage_id}"


def parts_of_stage(value: str) -> tuple[str, str]:
    """Return the pipeline and the stage of a value."""
    pipeline_id, _, stage_id = value.partition(_BETWEEN)
    return pipeline_id, stage_id


class Counts:
    """Tally of values by type and field; functions of C do what happens to every event."""

    def __init__(self) -> None:
        self.labels: Labels = {}
        self._by_field: defaultdict[FieldOfType, Counter[tuple[str, str | None]]] = defaultdict(Counter)

    def add(self, found: Sequence[events.Event]) -> None:
        """Count the values of events, and note the latest name of each tag."""
        for event_type, of_type in _by_type(found):
            tenants, data = list(map(_TENANT, of_type)), list(map(_DATA, of_type))
            for field, values in _VALUES.get(event_type, {}).items():
                self._by_field[event_type, field].update(values(tenants, data))
            if event_type == TAG_ADDED:
                self.labels.update(_names_of_tags(tenants, data))

    def by_field(self) -> Iterator[tuple[FieldOfType, Mapping[ValueOfTenant, int]]]:
        """Yield the fields that had values, with how often which one came."""
        for field, counter in self._by_field.items():
            found = {(tenant_id, value): number for (tenant_id, value), number in counter.items() if value is not None}
            if found:
                yield field, found


def _by_type(found: Sequence[events.Event]) -> Iterable[tuple[str, Sequence[events.Event]]]:
    types = set(map(_TYPE, found))
    if len(types) <= 1:  # nearly always: a topic has one, but for reversals
        return [(event_type, found) for event_type in types]
    return [(event_type, [event for event in found if event.type == event_type]) for event_type in types]


_TENANT: Final = attrgetter("tenant_id")
_TYPE: Final = attrgetter("type")
_DATA: Final = attrgetter("data")
TAG_ADDED: Final = "contact.tag.added"
TAG_ID: Final = "tag_id"
_Values = Callable[[Sequence[str], Sequence[Any]], Iterable[tuple[str, str | None]]]
"""Return each value of the data of events with its tenant, None for an event without one."""


def _of(name: str) -> _Values:
    value = attrgetter(name)
    return lambda tenants, data: zip(tenants, map(value, data), strict=True)


def _currencies(tenants: Sequence[str], data: Sequence[Any]) -> Iterable[tuple[str, str | None]]:
    return zip(tenants, [one.currency and one.currency.upper() for one in data], strict=True)


def _products(tenants: Sequence[str], data: Sequence[Any]) -> Iterable[tuple[str, str | None]]:
    return [
        (tenant_id, product_id)
        for tenant_id, one in zip(tenants, data, strict=True)
        if one.product_ids
        for product_id in set(one.product_ids)
    ]


def _stages(tenants: Sequence[str], data: Sequence[Any]) -> Iterable[tuple[str, str | None]]:
    return zip(tenants, [stage_value(one.pipeline_id, one.stage_id) for one in data], strict=True)


def _names_of_tags(tenants: Sequence[str], data: Sequence[Any]) -> Iterable[tuple[ValueOfTenant, str]]:
    return [
        ((tenant_id, one.tag_id), one.tag_name)
        for tenant_id, one in zip(tenants, data, strict=True)
        if one.tag_id is not None and one.tag_name is not None
    ]


_VALUES: Final[Mapping[str, Mapping[str, _Values]]] = {
    TAG_ADDED: {TAG_ID: _of("tag_id"), "tag_name": _of("tag_name")},
    "payment.completed": {"product_id": _products, "currency": _currencies},
    events.PAYMENT_REFUNDED: {"currency": _currencies},
    "appointment.booked": {"calendar_id": _of("calendar_id"), "service_id": _of("service_id")},
    "form.submitted": {"form_id": _of("form_id")},
    events.STAGE_CHANGED: {STAGE: _stages},
}

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {event_type: tuple(fields) for event_type, fields in _VALUES.items()}
"""The fields that are counted of each CloudEvents type."""
