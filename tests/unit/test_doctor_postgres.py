"""Findings of `goalworker doctor` in PostgreSQL: settings that it does not keep, clocks, and exits that wait."""

import asyncio
from datetime import UTC, datetime
from typing import cast

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.admin import doctor_postgres
from goalworker.pipeline import clock_skew
from goalworker.postgres import connections
from goalworker.stores import enrollments

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


def test_the_workflows_with_most_waiting_exits_are_named_with_their_last_deactivation() -> None:
    since = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
    waiting = [enrollments.WaitingExits("acme", f"flow {number}", 10 - number, since) for number in range(7)]
    finding = doctor_postgres.exits(waiting)
    assert (finding.check, finding.state) == ("exits", "ok")
    assert finding.detail.startswith(
        "49 exits wait for an activation (10 in flow 0 of acme, deactivated at 2026-05-01T12:30:00Z; 9 in flow 1 of"
    )
    assert finding.detail.endswith(
        "6 in flow 4 of acme, deactivated at 2026-05-01T12:30:00Z; workflows not named here: 2): "
        "a workflow that runs again needs a `workflow.activated` of its engine"
    )


def test_one_exit_or_none_that_waits_is_said_in_words() -> None:
    one = enrollments.WaitingExits("acme", "flow", 1, datetime(2026, 5, 1, tzinfo=UTC))
    assert doctor_postgres.exits([one]).detail.startswith("1 exit waits for an activation of its workflow (1 in flow")
    assert doctor_postgres.exits([]).detail == "no exit waits for an activation of its workflow"
