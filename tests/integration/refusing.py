"""Assertions on how commands report that the database or broker refuses them."""

from goalworker.cli.last_words import SERVICES
from tests.kit import shells
from tests.kit.forker import Outcome


def assert_refused(name: str, outcome: Outcome, code: int, says: str) -> None:
    """Assert that a command ends with one useful sentence; doctor lists the problem and goes on."""
    assert "Traceback" not in outcome.err, outcome.err
    assert "pw-" not in outcome.out + outcome.err  # part of every password in these tests
    if name == "doctor":
        assert (outcome.code, outcome.err) == (1, "")
        assert any(line.startswith("problem") and says in line for line in outcome.out.splitlines()), outcome.out
        assert "goalworker doctor" not in outcome.out
    elif name in SERVICES:
        # Services log as well, and where they log JSON the sentence is one of the lines.
        assert (outcome.code, outcome.out) == (code, ""), (name, outcome)
        assert says in outcome.err.splitlines()[-1]
    else:
        shells.assert_one_sentence(outcome, code, says)
