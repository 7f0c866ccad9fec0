"""The finding of `goalworker doctor` about insight that has run before."""

import pytest

from goalworker.admin import doctor_insight, findings


@pytest.mark.parametrize(
    ("processes", "state", "says"),
    [
        (0, findings.State.WARN, "it does not run, and 7 records wait"),
        (2, findings.State.OK, "processes: 2; 7 records"),
    ],
)
def test_insight_that_has_stopped_is_a_warning(processes: int, state: findings.State, says: str) -> None:
    found = doctor_insight.finding(processes, 7)
    assert found.state is state
    assert says in found.detail
