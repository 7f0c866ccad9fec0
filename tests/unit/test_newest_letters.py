"""The newest dead letters: their numbers for everyone, and those of one tenant."""

from datetime import UTC, datetime, timedelta

import aiokafka
import pytest

from goalworker import config
from goalworker.inspection import dead_letter_reading
from goalworker.inspection.newest_letters import Count, Letter, NewestLetters

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
JSON, DATA = ("tag-added", "invalid_json"), ("tag-added", "invalid_data")


def letter(kind: tuple[str | None, str | None], tenant_id: str | None, minutes: int) -> Letter:
    return Letter(kind, NOON + timedelta(minutes=minutes), tenant_id, {"offset": minutes})


FOUND = NewestLetters(
    [letter(DATA, "acme", 3), letter(JSON, "acme", 1), letter(JSON, "other", 9), letter((None, None), None, 2)], 4, True
)


def test_letters_are_counted_by_kind_with_those_of_the_tenant() -> None:
    assert FOUND.counts("acme") == [
        Count(JSON, 2, 1, NOON + timedelta(minutes=9)),
        Count(DATA, 1, 1, NOON + timedelta(minutes=3)),
        Count((None, None), 1, 0, NOON + timedelta(minutes=2)),
    ]
    assert [count.own for count in FOUND.counts("nobody")] == [0, 0, 0]


def test_a_tenant_gets_its_own_letters_the_newest_first() -> None:
    assert [found.described["offset"] for found in FOUND.of_tenant("acme")] == [3, 1]
    assert FOUND.of_tenant("nobody") == []


@pytest.mark.parametrize(
    ("key", "value", "headers", "owner"),
    [
        (b"acme:c", b"{", [], "acme"),
        (b"acme:c", b"{", [("ce_tenantid", b"acme")], "acme"),
        (b"acme:c", b"{", [("ce_tenantid", b"other")], None),
        (b"acme:c", b'{"tenantid": "other"}', [], None),
        (None, b"{", [], None),
    ],
)
def test_a_letter_belongs_to_a_tenant_only_if_it_names_no_other(
    key: bytes | None, value: bytes, headers: list[tuple[str, bytes]], owner: str | None
) -> None:
    letter = aiokafka.ConsumerRecord("dlq", 0, 0, 0, 0, key, value, None, 0, 0, headers)
    assert dead_letter_reading.owners_of(config.load({}, env_file=None, secrets_dir=None))(letter) == owner


def test_a_letter_belongs_to_the_tenant_that_the_worker_told_whatever_else_it_names() -> None:
    value = b'{"specversion": "1.0", "id": "1", "source": "/crm", "type": "contact.tag.added", "tenantid": "acme"}'
    headers = [("x-original-topic", b"tag-added"), ("ce_tenantid", b"other")]
    letter = aiokafka.ConsumerRecord("dlq", 0, 0, 0, 0, b"other:c", value, None, 0, 0, headers)
    assert dead_letter_reading.owners_of(config.load({}, env_file=None, secrets_dir=None))(letter) == "acme"
