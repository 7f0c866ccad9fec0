"""Problems of the API: what they say is bounded, whatever was sent."""

from goalworker.api import problems
from goalworker.domain import faults


def test_a_problem_counts_all_faults_and_names_no_more_than_a_thousand() -> None:
    problem = problems.invalid([faults.Fault(f"/{number}", "is unknown") for number in range(5_000)])
    assert len(problem.faults) == 1_000
    assert problem.detail == "is unknown (and 4999 more, see errors)"
