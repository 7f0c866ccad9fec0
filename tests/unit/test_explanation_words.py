"""Words of explanations cover every gate, answer and clause."""

import pytest

from goalworker.domain import clauses, explanation_words, gates


def test_every_gate_has_a_meaning() -> None:
    assert explanation_words.MEANING.keys() == set(gates.GATES)


def test_every_answer_has_a_word() -> None:
    assert explanation_words.ANSWERS.keys() == set(gates.ANSWERS)


@pytest.mark.parametrize("op", clauses.OPS)
def test_every_clause_is_a_sentence(op: str) -> None:
    sentence = explanation_words.clause(clauses.Clause("/form_id", op, "f1", None, False))
    assert sentence.startswith("/form_id ")
    assert sentence.endswith(" f1: the event lacks it")


def test_control_characters_of_values_are_escaped() -> None:
    hostile = clauses.Clause("/product_id", clauses.CONTAINS, "a\u202e", ("b\n", "c"), False)
    assert explanation_words.clause(hostile) == "/product_id contains a\\u202e: the event has b\\n, c"
    assert explanation_words.changes([clauses.DataChange("/form_id", "\u202e")]) == "/form_id \\u202e"
