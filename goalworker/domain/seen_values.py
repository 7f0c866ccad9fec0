"""Values that events carry in the fields that goals ask about, counted by tenant, type, field and value (section 7)."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from goalworker.domain import events

STAGE: Final = "stage"
"""The field whose values are a pipeline and a stage."""
_BETWEEN: Final = "\x1f"  # which no id contains

SeenKey = tuple[str, str, str, str]
"""(tenant_id, CloudEvents type, field, value)."""
Labels = dict[SeenKey, str]


def stage_value(pipeline_id: str, stage_id: str) -> str:
    """Return a pipeline and a stage as one value."""
    return f"{pipeline_id}{_BETWEEN}{stage_id}"


def parts_of_stage(value: str) -> tuple[str, str]:
    """Return the pipeline and the stage of a value."""
    pipeline_id, _, stage_id = value.partition(_BETWEEN)
    return pipeline_id, stage_id


def count(counts: Counter[SeenKey], labels: Labels, found: Iterable[events.Event]) -> None:
    """Count the values of events, and note the latest name of each tag."""
    by_type: defaultdict[str, list[events.Event]] = defaultdict(list)
    for event in found:
        by_type[event.type].append(event)
    for event_type, of_type in by_type.items():
        for keys in _KEYS.get(event_type, ()):
            counts.update(keys(event_type, of_type))
        if event_type == _TAG_ADDED:
            labels.update(_names_of_tags(of_type))


_TAG_ADDED: Final = "contact.tag.added"
_Keys = Callable[[str, Sequence[Any]], list[SeenKey]]


def _field(name: str) -> _Keys:
    def keys(event_type: str, of_type: Sequence[Any]) -> list[SeenKey]:
        return [
            (event.tenant_id, event_type, name, value)
            for event in of_type
            if (value := getattr(event.data, name)) is not None
        ]

    return keys


def _currencies(event_type: str, of_type: Sequence[Any]) -> list[SeenKey]:
    return [
        (event.tenant_id, event_type, "currency", event.data.currency.upper())
        for event in of_type
        if event.data.currency is not None
    ]


def _products(event_type: str, of_type: Sequence[Any]) -> list[SeenKey]:
    return [
        (event.tenant_id, event_type, "product_id", product_id)
        for event in of_type
        if event.data.product_ids
        for product_id in set(event.data.product_ids)
    ]


def _stages(event_type: str, of_type: Sequence[Any]) -> list[SeenKey]:
    return [
        (event.tenant_id, event_type, STAGE, stage_value(event.data.pipeline_id, event.data.stage_id))
        for event in of_type
    ]


def _names_of_tags(of_type: Sequence[Any]) -> Iterable[tuple[SeenKey, str]]:
    return [
        ((event.tenant_id, _TAG_ADDED, "tag_id", event.data.tag_id), event.data.tag_name)
        for event in of_type
        if event.data.tag_id is not None and event.data.tag_name is not None
    ]


_KEYS: Final[Mapping[str, tuple[_Keys, ...]]] = {
    _TAG_ADDED: (_field("tag_id"), _field("tag_name")),
    "payment.completed": (_products, _currencies),
    events.PAYMENT_REFUNDED: (_currencies,),
    "appointment.booked": (_field("calendar_id"), _field("service_id")),
    "form.submitted": (_field("form_id"),),
    events.STAGE_CHANGED: (_stages,),
}

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    _TAG_ADDED: ("tag_id", "tag_name"),
    "payment.completed": ("product_id", "currency"),
    events.PAYMENT_REFUNDED: ("currency",),
    "appointment.booked": ("calendar_id", "service_id"),
    "form.submitted": ("form_id",),
    events.STAGE_CHANGED: (STAGE,),
}
"""The fields that are counted of each CloudEvents type."""
