"""What `goalworker doctor` says of settings that the database does not hold."""

from goalworker import database
from goalworker.commands import doctor_database

WANTED = database.session_limits(30)
HOLDING = {
    "statement_timeout": "30000",
    "lock_timeout": "2000",
    "idle_in_transaction_session_timeout": "5000",
    "timezone": "utc",
    "transaction_isolation": "read committed",
}


def test_nothing_is_unmet_where_all_holds() -> None:
    assert doctor_database.unmet_limits(WANTED, HOLDING) == []


def test_each_limit_that_does_not_hold_is_named_with_what_it_is() -> None:
    for name, value in HOLDING.items():
        (found,) = doctor_database.unmet_limits(WANTED, HOLDING | {name: "0"})
        assert found.lower() == f"{name} (0 instead of {value})"
