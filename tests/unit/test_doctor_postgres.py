"""Findings of `goalworker doctor` about session settings that the database does not keep."""

import asyncio
from typing import cast

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.admin import doctor_postgres
from goalworker.pipeline import clock_skew
from goalworker.postgres import connections

WANTED = connections.session_settings(30)
HOLDING = {
    "statement_timeout": "30000",
    "lock_timeout": "2000",
    "idle_in_transaction_session_timeout": "5000",
    "timezone": "utc",
    "transaction_isolation": "read committed",
}


def test_nothing_is_unmet_where_all_holds() -> None:
    assert doctor_postgres.unmet_limits(WANTED, HOLDING) == []


def test_each_limit_that_does_not_hold_is_named_with_what_it_is() -> None:
    for name, value in HOLDING.items():
        (found,) = doctor_postgres.unmet_limits(WANTED, HOLDING | {name: "0"})
        assert found.lower() == f"{name} (0 instead of {value})"


@pytest.mark.parametrize(
    ("ahead", "state", "detail"),
    [(4.9, "ok", "4.900 s ahead of ours"), (5.1, "warn", "5.100 s ahead"), (-5.1, "warn", "5.100 s behind")],
)
def test_clocks_are_too_far_apart_where_the_worker_warns_of_it(
    monkeypatch: pytest.MonkeyPatch, ahead: float, state: str, detail: str
) -> None:
    async def skew_seconds(_pool: sa_async.AsyncEngine) -> float:
        return ahead

    monkeypatch.setattr(clock_skew, "skew_seconds", skew_seconds)
    finding = asyncio.run(doctor_postgres._skew(cast("sa_async.AsyncEngine", None)))
    assert (finding.check, finding.state) == ("clocks", state)
    assert detail in finding.detail
