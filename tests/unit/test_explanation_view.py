"""Explanations as text: a mark for each gate, in 80 columns, on any terminal and off it (contract section 7)."""

from typing import Final

import pytest
from msgspec import structs

from goalworker.cli import explanation_view
from goalworker.cli.explanation_view import Marks
from goalworker.domain import explaining
from goalworker.domain.explanations import ContactFacts, DeadLetter
from tests.unit import test_summaries as scene
from tests.unit.test_explaining import _known

MISSED: Final = """\
c-17 in onboarding

purchase_made (min_amount 50), version 1
  goal 00000000-0000-0000-0000-000000000001, enrollment e-1

  not achieved: c-17 paid 49.90 EUR on 1 May (pay-4711); the goal asks for at
  least 50.00.

  ✓ enrolled            the contact is enrolled
  ✓ event_seen          an event of the goal's type was seen
  ✓ version_in_force    the goal was in force at its time
  ✗ criteria            it meets the goal's criteria
  ? window              it lies within the enrollment, and belongs to it
  ? occurrence          it is new, and was not taken back
  ? threshold           there are as many as the goal asks for
  ? not_stopped_before  the workflow had not reached its goal before
  ? workflow_active     the workflow is active, so the exit does not wait
  ? exit_published      the exit was sent

  events, the nearest last:
    2026-05-01T12:00:00Z  evt-pay-4711-011200  stopped at criteria
      ✗ /min_amount is at least 50: the event has 49.90
      would achieve the goal with /amount 50

known: events since 2026-04-20T00:00:00Z; hits since 2026-04-20T00:00:00Z;
judged until 2026-06-01T00:00:00Z; dead letters were not searched"""


MISSING: Final = scene.known_of(scene.goal(scene.AT_LEAST_50), scene.payment())


def _text(known: ContactFacts, marks: Marks | None = None) -> str:
    return explanation_view.text_of(explaining.answer(known), known, marks or Marks())


def test_an_explanation_is_a_sentence_the_gates_and_the_events_that_came_nearest() -> None:
    assert _text(MISSING) == MISSED


def test_an_output_that_cannot_show_the_marks_gets_plain_ones() -> None:
    assert explanation_view.marks_for("utf-8") == Marks()
    for encoding in ("ascii", "latin-1", "no-such", None):
        text = _text(MISSING, explanation_view.marks_for(encoding))
        assert text == MISSED.replace("✓", "+").replace("✗", "x")


@pytest.mark.parametrize("seed", range(30))
def test_no_line_is_wider_than_80_columns(seed: int) -> None:
    for known in _known(seed):
        text = _text(known)
        assert max(map(len, text.splitlines())) <= 80
        assert text.count("✓ enrolled") + text.count("✗ enrolled") == len(explaining.explain(known))


def test_dead_letters_of_the_contact_are_listed_with_their_position() -> None:
    letter = DeadLetter("payment-completed", 3, 17, "invalid_data")
    text = _text(structs.replace(MISSING, dead_letters=(letter,)))
    assert "also dead letter 3:17 of payment-completed, invalid_data" in text
    assert "not searched" not in text


def test_of_many_events_the_nearest_are_shown_and_the_others_counted() -> None:
    happened = [scene.payment(f"pay-{number}", str(number)) for number in range(9)]
    text = _text(scene.known_of(scene.goal(scene.AT_LEAST_50), *happened))
    assert "without 4 others" in text
    assert text.count("stopped at criteria") == 5


def test_names_cannot_break_out_of_their_line() -> None:
    text = _text(structs.replace(MISSING, workflow_id="a\x1b[2J\nb", contact_id="c\u202e"))
    assert text.splitlines()[0] == "c\\u202e in a\\x1b[2J\\nb"
