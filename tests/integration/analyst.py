"""Statistics of a workflow as an independent analyst computes them: read every row, and do the rest in plain Python."""

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID

from goalworker.postgres import connections

Span = tuple[datetime | None, datetime | None]
HOURS = ("avg_time_to_goal_hours", "median_time_to_goal_hours", "p90_time_to_goal_hours")
SECONDS = ("avg_time_to_goal_seconds", "median_time_to_goal_seconds", "p90_time_to_goal_seconds")
TIMES = (*HOURS, *SECONDS)
AMOUNTS = ("gross", "reversed", "net")
_PRINTED = re.compile(r"[0-9]+(\.[0-9]{1,2}|\.[0-9]{2,}[1-9])?")


class Payment(NamedTuple):
    """An event of a payment that met a goal."""

    goal_id: UUID
    contact_id: str
    payment_id: str
    time: datetime
    source: str
    id: str
    amount: Fraction
    currency: str
    reversed: Fraction


async def numbers(
    administrator: connections.Connection, tenant_id: str, workflow_id: str, span: Span, *, tracking: bool
) -> dict[str, Any]:
    """Return the statistics that `stats` must give; times are exact (Fraction), and so is revenue."""
    tables = {}
    for table in ("enrollments", "achievements", "exits", "goals"):
        rows = await administrator.fetch(
            f"SELECT * FROM {table} WHERE tenant_id = $1 AND workflow_id = $2", tenant_id, workflow_id
        )
        tables[table] = [dict(row) for row in rows]
    live = [row for row in tables["achievements"] if row["revoked_at"] is None]
    exits = {row["enrollment_id"]: row["achieved_at"] for row in tables["exits"]}
    if tracking:
        runs = [run for run in tables["enrollments"] if run["enrolled_at"] and is_in(span, run["enrolled_at"])]
        chosen = {run["enrollment_id"] for run in runs}
        live = [row for row in live if row["enrollment_id"] in chosen]
    else:
        moments = [(run, run["converted_at"] or exits.get(run["enrollment_id"])) for run in tables["enrollments"]]
        runs = [run for run, moment in moments if moment and is_in(span, moment)]
        live = [row for row in live if is_in(span, row["achieved_at"])]
    enrolled = len(runs) if tracking else None
    converted = [run for run in runs if run["converted_at"]]
    reversals = await administrator.fetch("SELECT * FROM reversals WHERE tenant_id = $1", tenant_id)
    runs_of_payments = runs if tracking else tables["enrollments"]
    payments = [_taken_back(payment, reversals) for payment in _payments(runs_of_payments, tables["achievements"])]
    if not tracking:
        payments = [payment for payment in payments if is_in(span, payment.time)]
    goals = _goals(tables["goals"], {row["goal_id"] for row in live} | {payment.goal_id for payment in payments})
    return {
        "workflow_id": workflow_id,
        "from": span[0],
        "to": span[1],
        "total_enrolled": enrolled,
        "goals_achieved": len(live),
        "enrollments_converted": len(converted),
        "conversion_rate": _rate(len(converted), enrolled),
        **_times_to_goal(_times(converted) if tracking else [None] * 3),
        "exits_sent": sum(run["enrollment_id"] in exits for run in runs),
        "by_goal_type": _by_goal_type(goals, live, enrolled),
        "by_goal": [_of_goal(goal, live, payments, enrolled) for goal in goals],
        "revenue": _revenue(payments),
    }


def is_in(span: Span, moment: datetime) -> bool:
    """Say whether a moment lies in a span."""
    since, until = span
    return (since is None or since <= moment) and (until is None or moment < until)


def _rate(part: int, enrolled: int | None) -> float | None:
    if enrolled is None:
        return None
    return round(100 * part / enrolled, 1) if enrolled else 0.0


def _times(converted: Iterable[Mapping[str, Any]]) -> list[Fraction | None]:
    """Return mean, median and 90th percentile in hours."""
    times = sorted(_hours(run["enrolled_at"], run["converted_at"]) for run in converted)
    if not times:
        return [None, None, None]
    return [
        sum(times, start=Fraction()) / len(times),
        _percentile(times, Fraction(1, 2)),
        _percentile(times, Fraction(9, 10)),
    ]


def _times_to_goal(hours: Sequence[Fraction | None]) -> dict[str, Fraction | None]:
    seconds = [None if each is None else each * 3600 for each in hours]
    return dict(zip(TIMES, (*hours, *seconds), strict=True))


def _hours(start: datetime, end: datetime) -> Fraction:
    took = end - start
    return Fraction((took.days * 86_400 + took.seconds) * 10**6 + took.microseconds, 3600 * 10**6)


def _percentile(times: Sequence[Fraction], part: Fraction) -> Fraction:
    place = part * (len(times) - 1)
    lower = times[int(place)]
    upper = times[min(int(place) + 1, len(times) - 1)]
    return lower + (upper - lower) * (place % 1)


def _goals(goals: Iterable[dict[str, Any]], with_results: Collection[UUID]) -> list[dict[str, Any]]:
    shown = [goal for goal in goals if goal["deleted_at"] is None or goal["goal_id"] in with_results]
    return sorted(shown, key=lambda goal: (goal["created_at"], goal["goal_id"]))


def _of_goal(
    goal: Mapping[str, Any], live: Iterable[Mapping[str, Any]], payments: Iterable[Payment], enrolled: int | None
) -> dict[str, Any]:
    achieved = sum(row["goal_id"] == goal["goal_id"] for row in live)
    described = {name: goal[name] for name in ("goal_id", "goal_type", "name")}
    revenue = _revenue(payment for payment in payments if payment.goal_id == goal["goal_id"])
    return {**described, "achieved": achieved, "conversion_rate": _rate(achieved, enrolled), "revenue": revenue}


def _by_goal_type(
    goals: Iterable[Mapping[str, Any]], live: Sequence[Mapping[str, Any]], enrolled: int | None
) -> dict[str, dict[str, Any]]:
    answer = {}
    for goal_type in {goal["goal_type"] for goal in goals}:
        runs = [row["enrollment_id"] for row in live if row["goal_type"] == goal_type]
        answer[goal_type] = {"achieved": len(runs), "conversion_rate": _rate(len(set(runs)), enrolled)}
    return answer


# --- revenue ---


def _payments(runs: Iterable[Mapping[str, Any]], achievements: Sequence[Mapping[str, Any]]) -> Iterator[Payment]:
    """Yield the payments that an enrollment keeps apart or, where it keeps none, those that achieved its goals."""
    for run in runs:
        own = [row for row in achievements if row["enrollment_id"] == run["enrollment_id"]]
        own = [row for row in own if row["goal_type"] == "purchase_made"]
        assert {row["payments_apart"] for row in own} <= {run["payments"] is not None}
        if run["payments"] is not None:
            for kept in json.loads(run["payments"]):
                time = datetime.fromisoformat(kept["time"])
                order = (time, kept["source"], kept["id"])
                yield _payment(UUID(kept["goal_id"]), run["contact_id"], order, kept["data"])
            continue
        for row in own:
            if row["revoked_at"] is None:
                order = (row["achieved_at"], row["event_source"], row["event_id"])
                yield _payment(row["goal_id"], run["contact_id"], order, json.loads(row["data"]))


def _payment(goal_id: UUID, contact_id: str, order: tuple[datetime, str, str], data: Mapping[str, Any]) -> Payment:
    amount, currency = Fraction(data["amount"]), data["currency"].upper()
    return Payment(goal_id, contact_id, data["payment_id"], *order, amount, currency, Fraction(0))


def _taken_back(payment: Payment, reversals: Iterable[Mapping[str, Any]]) -> Payment:
    """Return a payment with what was reversed of it, from the reversals and not from what a judgement made of them."""
    own = [
        row for row in reversals if (row["contact_id"], row["subject_id"]) == (payment.contact_id, payment.payment_id)
    ]
    own.sort(key=lambda row: (row["event_time"], row["event_source"], row["event_id"]))
    total, seen = Fraction(0), set()
    for row in own:
        if row["type"] == "payment.failed" and row["event_time"] >= payment.time:
            total += payment.amount
        if row["type"] != "payment.refunded" or row["refund_id"] in seen:
            continue
        if row["refund_id"] is not None:
            seen.add(row["refund_id"])
        if row["event_time"] >= payment.time and (row["currency"] or payment.currency).upper() == payment.currency:
            total += payment.amount if row["amount"] is None else Fraction(row["amount"])
    return payment._replace(reversed=min(total, payment.amount))


def _revenue(payments: Iterable[Payment]) -> dict[str, dict[str, Fraction]]:
    """Add up payments, each once, as its earliest event says it."""
    earliest: dict[tuple[str, str], Payment] = {}
    for payment in sorted(payments, key=lambda one: (one.time, one.source, one.id)):
        earliest.setdefault((payment.contact_id, payment.payment_id), payment)
    paid: dict[str, dict[str, Fraction]] = defaultdict(lambda: dict.fromkeys(AMOUNTS, Fraction(0)))
    for payment in earliest.values():
        sums = paid[payment.currency]
        sums["gross"] += payment.amount
        sums["reversed"] += payment.reversed
        sums["net"] += payment.amount - payment.reversed
    return dict(paid)


def assert_agrees(answer: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Assert that an answer equals the computed one: times within their decimals, everything else exactly."""
    assert list(answer) == list(expected)
    for name in TIMES:
        said, exact = answer[name], expected[name]
        decimals = 2 if name in HOURS else 3
        assert (said is None) == (exact is None), name
        if exact is not None:
            assert said == round(said, decimals), name
            assert abs(said - exact) <= Fraction(1, 2 * 10**decimals) + Fraction(1, 10**8), name
    rest = [name for name in expected if name not in TIMES]
    by_goal = [_with_exact_revenue(goal) for goal in answer["by_goal"]]
    read = {**_with_exact_revenue(answer), "by_goal": by_goal}
    assert {name: read[name] for name in rest} == {name: expected[name] for name in rest}


def _with_exact_revenue(answer: Mapping[str, Any]) -> dict[str, Any]:
    revenue = {}
    for currency, amounts in answer["revenue"].items():
        assert tuple(amounts) == AMOUNTS
        assert all(_PRINTED.fullmatch(amount) for amount in amounts.values()), amounts
        revenue[currency] = {name: Fraction(amount) for name, amount in amounts.items()}
    assert list(revenue) == sorted(revenue)
    return {**answer, "revenue": revenue}


def spans(moments: Sequence[datetime | None]) -> list[Span]:
    """Return every span between these moments, including empty and reversed ones."""
    return list(itertools.product(moments, moments))
