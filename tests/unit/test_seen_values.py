"""Values of events are counted by tenant, type and field; a tag's label is its latest name."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.domain import events, seen_values

AT = datetime(2026, 5, 1, tzinfo=UTC)


def event(data: events.GoalData | events.ReversalData, tenant_id: str = "north") -> events.Event:
    event_type = next(name for name, struct in events.DATA_OF_TYPE.items() if struct is type(data))
    return events.Event(tenant_id, "s", "1", event_type, AT, data)


def counted(*found: events.Event) -> tuple[dict[tuple[str, ...], int], seen_values.Labels]:
    """Return counts by tenant, type, field and value."""
    counts = seen_values.Counts()
    counts.add(found)
    return {
        (tenant_id, *of_field, value): number
        for of_field, numbers in counts.by_field()
        for (tenant_id, value), number in numbers.items()
    }, counts.labels


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (events.TagAdded("c", "t", "VIP"), {("tag_id", "t"), ("tag_name", "VIP")}),
        (events.TagAdded("c", None, "VIP"), {("tag_name", "VIP")}),
        (
            events.PaymentCompleted("c", "p", Decimal(1), "eur", ("a", "b", "a")),
            {("currency", "EUR"), ("product_id", "a"), ("product_id", "b")},
        ),
        (events.PaymentRefunded("c", "p", currency="EUR", amount=Decimal(1)), {("currency", "EUR")}),
        (events.PaymentRefunded("c", "p"), set()),
        (events.PaymentFailed("c", "p"), set()),
        (events.AppointmentBooked("c", "a", "cal", None), {("calendar_id", "cal")}),
        (events.AppointmentBooked("c", "a", None, "ser"), {("service_id", "ser")}),
        (events.FormSubmitted("c", "f"), {("form_id", "f")}),
        (events.FormRejected("c", "s"), set()),
        (events.StageChanged("c", "p", "s"), {("stage", seen_values.stage_value("p", "s"))}),
    ],
)
def test_each_field_of_an_event_is_counted_once(
    data: events.GoalData | events.ReversalData, expected: set[tuple[str, str]]
) -> None:
    found = event(data)
    counts, _ = counted(found)
    assert counts == {("north", found.type, *of_field): 1 for of_field in expected}


def test_the_label_of_a_tag_is_its_latest_name() -> None:
    tags = [event(events.TagAdded("c", "t", name)) for name in ("old", "new", None)]
    _, labels = counted(*tags)
    assert labels == {("north", "t"): "new"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["north", "south"]),
            st.sampled_from(["f", "g"]) | st.tuples(st.sampled_from("pq"), st.sampled_from("st")),
        )
    )
)
def test_counts_of_tenants_and_types_are_apart(drawn: list[tuple[str, str | tuple[str, str]]]) -> None:
    found = [
        event(events.FormSubmitted("c", value) if isinstance(value, str) else events.StageChanged("c", *value), tenant)
        for tenant, value in drawn
    ]
    counts, _ = counted(*found)
    expected = Counter(
        (tenant, "form_id", value) if isinstance(value, str) else (tenant, "stage", "\x1f".join(value))
        for tenant, value in drawn
    )
    assert {(key[0], *key[2:]): number for key, number in counts.items()} == expected


def test_a_stage_is_taken_apart_as_it_was_put_together() -> None:
    assert seen_values.parts_of_stage(seen_values.stage_value("p:1", "s/2")) == ("p:1", "s/2")


def test_every_field_that_is_counted_is_listed() -> None:
    of_all: list[events.GoalData | events.ReversalData] = [
        events.TagAdded("c", "t", "VIP"),
        events.PaymentCompleted("c", "p", Decimal(1), "EUR", ("a",)),
        events.PaymentRefunded("c", "p", currency="EUR", amount=Decimal(1)),
        events.AppointmentBooked("c", "a", "cal", "ser"),
        events.FormSubmitted("c", "f"),
        events.StageChanged("c", "p", "s"),
    ]
    counts, _ = counted(*map(event, of_all))
    listed = {(event_type, field) for event_type, fields in seen_values.FIELDS.items() for field in fields}
    assert {(key[1], key[2]) for key in counts} == listed
