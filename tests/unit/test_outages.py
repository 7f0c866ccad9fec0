"""An outage is logged at its begin, once a minute and at its end; refused logins end the waiting."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from goalworker import log_repeats, logs, outages
from tests.kit.clocks import Clock


def test_a_dependency_that_is_there_is_not_worth_a_word() -> None:
    outage = outages.Outage()
    assert [outage.update(None, now) for now in (0.0, 100.0)] == [None, None]


def test_an_outage_is_said_once_then_once_a_minute_and_when_it_ends() -> None:
    outage = outages.Outage()
    said = {now: notice for now in range(0, 126, 2) if (notice := outage.update("away", float(now)))}
    assert said == {0: ("begins", 0.0), 60: ("goes_on", 60.0), 120: ("goes_on", 120.0)}
    assert outage.update(None, 130.0) == ("is_over", 130.0)
    assert outage.update(None, 132.0) is None


def test_a_second_outage_begins_anew() -> None:
    outage = outages.Outage()
    outage.update("away", 0.0)
    outage.update(None, 59.0)
    assert outage.update("away", 60.0) == ("begins", 0.0)
    assert outage.update("away", 119.0) is None
    assert outage.update(None, 121.0) == ("is_over", 61.0)


def test_away_and_refused_are_logged_once_each_however_often_they_take_turns() -> None:
    outage = outages.Outage()
    kinds: list[outages.Kind] = ["away", "refused", "away", "refused"]
    said = [outage.update(kind, float(now)) for now, kind in enumerate(kinds * 5)]
    assert said == [("begins", 0.0), ("begins", 1.0), *[None] * 18]
    assert outage.update(None, 20.0) == ("is_over", 20.0)
    assert outage.update("refused", 30.0) == ("begins", 0.0)


def test_a_dependency_that_comes_and_goes_is_said_a_few_times_a_minute_and_no_more() -> None:
    outage = outages.Outage()
    said = [notice for now in range(0, 60, 2) if (notice := outage.update("away" if now % 4 else None, float(now)))]
    assert [notice.state for notice in said] == ["begins", "is_over"] * outages.BEGINS_MAX


def test_one_that_comes_and_goes_and_then_stays_away_is_said_within_a_minute() -> None:
    outage = outages.Outage()
    for now in range(0, 30, 2):
        outage.update("away" if now % 4 else None, float(now))
    said = {now: notice for now in range(30, 200, 2) if (notice := outage.update("away", float(now)))}
    assert said == {62: ("begins", 32.0), 122: ("goes_on", 92.0), 182: ("goes_on", 152.0)}
    assert outage.update(None, 190.0) == ("is_over", 160.0)


# --- the journal ---


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> outages.Journal:
    monkeypatch.setattr(logs, "REPEATS", log_repeats.RepeatLimiter(clock))
    return outages.Journal(clock)


@pytest.fixture
def written() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_the_lines_of_an_outage_say_what_since_when_and_for_how_long(
    journal: outages.Journal, clock: Clock, written: list[MutableMapping[str, Any]]
) -> None:
    for seconds in (0, 30, 60):
        clock.now = 1_000.0 + seconds
        journal.report("broker", "Kafka cannot be reached")
    clock.now += 5
    journal.report("broker", None)
    assert [(line["log_level"], line["event"]) for line in written] == [
        ("error", "broker_away"),
        ("error", "broker_still_away"),
        ("info", "broker_back"),
    ]
    assert {line["problem"] for line in written[:2]} == {"Kafka cannot be reached"}
    assert written[0]["since"].endswith("+00:00")
    assert [line.get("away_seconds") for line in written] == [None, 60.0, 65.0]


def test_a_refusal_is_not_called_an_absence(
    journal: outages.Journal, clock: Clock, written: list[MutableMapping[str, Any]]
) -> None:
    for _ in range(2):
        journal.report("database", "the password is wrong", "refused")
        clock.now += outages.REMIND_SECONDS
    journal.report("database", None)
    assert [line["event"] for line in written] == ["database_refused", "database_still_refused", "database_back"]


def test_dependencies_have_outages_of_their_own(
    journal: outages.Journal, written: list[MutableMapping[str, Any]]
) -> None:
    journal.report("broker", "away")
    journal.report("database", "away")
    journal.report("broker", None)
    assert [line["event"] for line in written] == ["broker_away", "database_away", "broker_back"]


def test_what_clients_said_meanwhile_is_counted_on_the_reminder_and_on_the_last_line(
    journal: outages.Journal, clock: Clock, written: list[MutableMapping[str, Any]]
) -> None:
    journal.report("broker", "away")
    assert [logs.REPEATS.admit("broker", "cannot connect") for _ in range(3)] == [None] * 3
    clock.now += outages.REMIND_SECONDS
    journal.report("broker", "away")
    journal.report("broker", None)
    assert [line.get("held_back") for line in written] == [None, 3, 3]
    assert logs.REPEATS.admit("broker", "cannot connect") == 0


def test_a_dependency_that_nobody_uses_meanwhile_is_reminded_of(
    journal: outages.Journal, clock: Clock, written: list[MutableMapping[str, Any]]
) -> None:
    journal.report("jwks", "no answer")
    clock.now += outages.REMIND_SECONDS
    journal.remind()
    assert written[-1]["last_tried_seconds_ago"] == outages.REMIND_SECONDS
    journal.report("jwks", None)
    clock.now += outages.REMIND_SECONDS
    journal.remind()
    assert [line["event"] for line in written] == ["jwks_away", "jwks_still_away", "jwks_back"]


# --- refusals ---


def test_refusals_that_last_are_given_up_after_two_minutes() -> None:
    refusals = outages.Refusals()
    assert [now for now in range(0, 121, 10) if refusals.update(True, float(now))] == [120]


def test_a_success_in_between_begins_the_time_anew() -> None:
    refusals = outages.Refusals()
    looks = [(now, now != 60) for now in range(0, 200, 10)]
    assert [now for now, is_refused in looks if refusals.update(is_refused, float(now))] == [190]


def test_a_server_that_does_not_answer_neither_refuses_nor_accepts() -> None:
    refusals = outages.Refusals()
    looks = [(float(now), True if now % 20 else None) for now in range(0, 140, 5)]
    assert [now for now, refused in looks if refusals.update(refused, now)] == [125.0, 130.0, 135.0]


def test_refusals_long_apart_are_not_one_run_of_them() -> None:
    refusals = outages.Refusals()
    assert not refusals.update(True, 0.0)
    refusals.update(None, 60.0)
    assert not refusals.update(True, 130.0)
