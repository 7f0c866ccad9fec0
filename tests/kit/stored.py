"""Stored rows and published messages in the words of the naive judge."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec import structs

from goalworker.domain import evidence
from tests.kit import naive_judge
from tests.kit.naive.money import Payment

PaymentKey = tuple[str, str, UUID, str]
"""(tenant_id, enrollment_id, goal_id, payment_id)."""


def achieved(row: Mapping[str, Any]) -> naive_judge.Achieved:
    """Return what a row of `achievements` says."""
    counted = evidence.counted_from_json(row["counted"])
    return naive_judge.Achieved(
        _walked(row), row["goal_version"], *(() if counted is None else structs.astuple(counted))
    )


def _walked(row: Mapping[str, Any]) -> naive_judge.Walked:
    return naive_judge.Walked(row["achieved_at"], row["event_source"], row["event_id"])


def told(data: Mapping[str, Any]) -> naive_judge.Achieved:
    """Return what the `data` of a goal-achieved message says."""
    trigger = data["trigger_event"]
    at = naive_judge.Walked(datetime.fromisoformat(data["achieved_at"]), trigger["source"], trigger["id"])
    if "occurrences" not in data:
        assert not data.keys() & {"total_amount", "evidence_complete"}, "fields of goals that count"
        return naive_judge.Achieved(at, data["goal_version"])
    total = None if data["total_amount"] is None else Decimal(data["total_amount"])
    return naive_judge.Achieved(at, data["goal_version"], data["occurrences"], total, data["evidence_complete"])


def payments(
    achievements: Iterable[Mapping[str, Any]], enrollments: Iterable[Mapping[str, Any]]
) -> dict[PaymentKey, Payment]:
    """Return the payments that are revenue: those that rows of `enrollments` list, and triggers of `achievements`."""
    found: dict[PaymentKey, set[Payment]] = defaultdict(set)
    for row in achievements:
        if row["revoked_at"] is None and row["goal_type"] == "purchase_made" and not row["payments_apart"]:
            payment = _payment(_walked(row), json.loads(row["data"]), Decimal(0))
            found[_key(row, row["goal_id"], json.loads(row["data"]))].add(payment)
    for row in enrollments:
        for kept in json.loads(row["payments"] or "[]"):
            at = naive_judge.Walked(datetime.fromisoformat(kept["time"]), kept["source"], kept["id"])
            payment = _payment(at, kept["data"], Decimal(kept.get("reversed", 0)))
            found[_key(row, UUID(kept["goal_id"]), kept["data"])].add(payment)
    return {key: min(same) for key, same in found.items()}


def _key(row: Mapping[str, Any], goal_id: UUID, data: Mapping[str, Any]) -> PaymentKey:
    return (row["tenant_id"], row["enrollment_id"], goal_id, data["payment_id"])


def _payment(at: naive_judge.Walked, data: Mapping[str, Any], back: Decimal) -> Payment:
    return Payment(at, Decimal(data["amount"]), data["currency"].upper(), back)
