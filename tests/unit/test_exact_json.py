"""JSON that people write: exact, or refused in a sentence."""

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.domain import exact_json


def test_numbers_keep_every_digit() -> None:
    assert exact_json.decode("[1, 1.10, 1e2, 0.1234567890123456789012345678901]") == [
        1,
        Decimal("1.10"),
        Decimal("1E+2"),
        Decimal("0.1234567890123456789012345678901"),
    ]
    assert str(exact_json.decode(b"1.10")) == "1.10"


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    assert exact_json.decode('{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "Expecting value at line 1, column 1"),
        (b'{"a": 1,\n "b" 2}', "Expecting ':' delimiter at line 2, column 6"),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b'"\xff"', "it is not UTF-8: byte 1 is wrong"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"9" * 5_000, "a number in it has too many digits"),
        (b"1e99999999999999999999", "a number in it has too many digits"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(text: bytes, sentence: str) -> None:
    with pytest.raises(exact_json.NotJsonError) as raised:
        exact_json.decode(text)
    assert str(raised.value) == sentence


@given(st.binary(max_size=64))
def test_nothing_else_is_ever_raised(text: bytes) -> None:
    with contextlib.suppress(exact_json.NotJsonError):
        exact_json.decode(text)
