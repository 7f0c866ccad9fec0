"""Cost of judging an enrollment with many hits of one goal, in calls of Python functions, which no load changes."""

import pytest

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


def _calls(case: counting.Counting, *, hits: int, versions: int = 1) -> int:
    return calls.calls_of(counting.judging_of(case, hits, versions))
