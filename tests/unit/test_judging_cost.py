"""Cost of judging an enrollment with many hits of one goal, in calls of Python functions, which no load changes."""

from decimal import Decimal
from functools import partial

import pytest
from msgspec import structs

from goalworker.domain import evidence, facts
from tests.kit import calls, counting

COUNTING = counting.counting(100)


@pytest.mark.parametrize("case", COUNTING)
def test_a_further_occurrence_costs_at_most_three_calls(case: str) -> None:
    assert (_calls(COUNTING[case], hits=40) - _calls(COUNTING[case], hits=20)) / 20 <= 3


def test_a_further_hit_of_an_achieved_goal_costs_no_call() -> None:
    assert _calls(counting.PLAIN, hits=40) - _calls(counting.PLAIN, hits=20) < 20


@pytest.mark.parametrize("case", COUNTING)
def test_a_further_version_of_a_goal_costs_at_most_eight_calls(case: str) -> None:
    assert (_calls(COUNTING[case], hits=90, versions=90) - _calls(COUNTING[case], hits=90)) / 89 <= 8


def test_the_count_of_an_achievement_is_read_without_the_hits_behind_it() -> None:
    made = []
    for hits in (2, 1_000):
        counted = facts.Counted(hits, Decimal(hits))
        others = tuple((1, facts.Trigger("/crm", f"h{number}", counting.START, b"{}")) for number in range(hits))
        achievement = facts.Achievement(counting.GOAL_ID, 1, None, others[0][1], 1, False, counted, others)
        kept = evidence.others_to_json(achievement)
        assert evidence.counted_from_json(kept) == evidence.others_from_json(kept)[0] == counted
        made.append(calls.calls_of(partial(evidence.counted_from_json, kept)))
    assert made[0] == made[1]
    assert evidence.counted_from_json(None) is None
    uncounted = structs.replace(achievement, counted=None)
    assert evidence.counted_from_json(evidence.others_to_json(uncounted)) is None


def _calls(case: counting.Counting, *, hits: int, versions: int = 1) -> int:
    return calls.calls_of(counting.judging_of(case, hits, versions))
