"""Exits that a backfill withholds: those that no hit but its own would have brought about."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from msgspec import structs

from goalworker.domain import criteria, facts, goals, verdicts
from tests.kit.choices import at

NOW = datetime.fromisoformat("2026-02-01T00:00:00Z")
WRITTEN, ASKED = at(5), at(8)
ENROLLED = facts.Enrollment("north", "e1", "w1", "c1", at(0))


def goal(number: int, tag_id: str, *, backfilled: bool = False, **settings: Any) -> goals.Goal:
    """Return a goal that was written at tick 5 and backfilled without exits at tick 8, or one from the beginning."""
    withheld = goals.Withheld(WRITTEN, ASKED) if backfilled else None
    wanted = criteria.Criteria(tag_id=tag_id, **settings)
    version = goals.GoalVersion(1, wanted, True, at(-1), None, withheld)
    created_at = WRITTEN if backfilled else at(-1)
    return goals.Goal("north", UUID(int=number), "w1", "tag_added", created_at, (version,))


def hit(of: goals.Goal, tick: int, id_: str = "") -> facts.Hit:
    trigger = facts.Trigger("/crm", id_ or f"{of.goal_id.int}-{tick}", at(tick), b'{"contact_id":"c1","tag_id":"t"}')
    return facts.Hit("north", "w1", "c1", of.goal_id, 1, trigger)


def verdict(
    known: tuple[goals.Goal, ...], *hits: facts.Hit, logic: str = "any", before: facts.Enrollment = ENROLLED
) -> verdicts.Verdict:
    workflow = goals.Workflow(known, (goals.LogicVersion(logic, at(-1)),))
    found = verdicts.verdict_of(before, [], hits, [], workflow, NOW, tracking=True)
    assert found is not None
    return found


PAST, PRESENT = goal(2, "a", backfilled=True), goal(1, "b")
TWICE = goal(3, "a", backfilled=True, times=2, within=60)


@pytest.mark.parametrize(
    ("logic", "hits", "is_withheld"),
    [
        pytest.param("any", [hit(PAST, 3)], True, id="of an event before the goal"),
        pytest.param("any", [hit(PAST, 5)], False, id="of an event after it, whatever the backfill"),
        pytest.param("any", [hit(PAST, 3, "same"), hit(PRESENT, 3, "same")], False, id="another goal is met as well"),
        pytest.param("all", [hit(PAST, 3), hit(PRESENT, 6)], True, id="the last one is not the backfilled goal"),
        pytest.param("all", [hit(PAST, 3), hit(PRESENT, 8)], False, id="the last one came after the backfill"),
        pytest.param("all", [hit(PAST, 6), hit(PRESENT, 7)], False, id="all came after the goal"),
    ],
)
def test_an_exit_is_withheld_if_it_rests_on_the_backfill(logic: str, hits: list[facts.Hit], is_withheld: bool) -> None:
    found = verdict((PAST, PRESENT), *hits, logic=logic)
    assert found.outcome.exit_withheld == is_withheld
    assert (found.exit is None) == is_withheld
    assert found.outcome.satisfied_at == hits[-1].trigger.time


@pytest.mark.parametrize(("last", "is_withheld"), [(6, True), (8, False)])
def test_a_count_rests_on_each_of_its_occurrences(last: int, is_withheld: bool) -> None:
    assert verdict((TWICE,), hit(TWICE, 3), hit(TWICE, last)).outcome.exit_withheld == is_withheld


def test_no_exit_is_withheld_once_one_was_sent_or_an_end_is_recorded() -> None:
    for before in (structs.replace(ENROLLED, exited_at=at(1)), structs.replace(ENROLLED, ended_at=at(4))):
        assert not verdict((PAST,), hit(PAST, 3), before=before).outcome.exit_withheld


def test_an_exit_that_is_no_longer_withheld_is_sent() -> None:
    withheld = verdict((PAST,), hit(PAST, 3))
    before = structs.replace(ENROLLED, **structs.asdict(withheld.outcome))
    allowed = structs.replace(PAST, versions=(structs.replace(PAST.versions[0], withheld=None),))
    found = verdict((allowed,), hit(PAST, 3), before=before)
    assert found.exit is not None
    assert not found.outcome.exit_withheld
