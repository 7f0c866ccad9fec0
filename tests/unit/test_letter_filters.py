"""Filters of dead letters: what a form selects, and the command that selects the same."""

import shlex
from datetime import UTC, datetime

import pytest

from goalworker.console import letter_filters
from goalworker.inspection.dead_letter_reading import Selection

TOPICS = ("tag-added", "form-submitted")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_an_empty_form_selects_all_letters_of_the_tenant() -> None:
    filters = letter_filters.parse({}, TOPICS)
    assert (filters.faults, filters.selection("acme")) == ({}, Selection(tenant_id="acme"))
    assert filters.command("redrive", "acme", "--dry-run") == "goalworker dlq redrive --tenant=acme --dry-run"


def test_each_field_narrows_the_selection_and_the_command() -> None:
    given = {
        "topic": "tag-added",
        "reason": "invalid_json",
        "since": "2026-05-01T12:00",
        "until": "2026-05-01T14:00+01:00",
    }
    filters = letter_filters.parse(given, TOPICS)
    assert filters.selection("a'b c") == Selection(
        NOON, NOON.replace(hour=13), "tag-added", "invalid_json", tenant_id="a'b c"
    )
    words = shlex.split(filters.command("list", "a'b c") or "")
    assert words == [
        *("goalworker", "dlq", "list", "--tenant=a'b c", "--topic=tag-added", "--reason=invalid_json"),
        *("--since=2026-05-01T12:00:00Z", "--until=2026-05-01T14:00:00+01:00"),
    ]


@pytest.mark.parametrize(
    ("field", "text"),
    [("topic", "goalworker.dlq"), ("reason", "bad"), ("since", "yesterday"), ("until", "2026-13-01T00:00")],
)
def test_what_no_field_can_mean_is_a_fault_of_that_field(field: str, text: str) -> None:
    filters = letter_filters.parse({field: text}, TOPICS)
    assert (list(filters.faults), filters.command("list", "acme")) == ([field], None)


def test_letters_are_matched_by_topic_and_reason() -> None:
    filters = letter_filters.parse({"topic": "tag-added"}, TOPICS)
    assert filters.match("tag-added", "invalid_json")
    assert not filters.match("form-submitted", "invalid_json")
    assert not filters.match(None, None)
    assert letter_filters.parse({}, TOPICS).match(None, None)
