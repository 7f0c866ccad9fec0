"""The sentences of the contract as functions that can be switched off, to show what each of them weighs."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

RULES: Final[dict[str, str]] = {}
"""Sentence of each rule, by the rule's name."""

_WITHOUT: ContextVar[frozenset[str]] = ContextVar("without", default=frozenset())


def rule(otherwise: Callable[..., Any]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function a rule of its own name; `otherwise` answers in its place where the rule is switched off."""

    def switchable(sentence: Callable[P, T]) -> Callable[P, T]:
        name = sentence.__name__

        @functools.wraps(sentence)
        def ask(*args: P.args, **kwargs: P.kwargs) -> T:
            chosen: Callable[P, T] = otherwise if name in _WITHOUT.get() else sentence
            return chosen(*args, **kwargs)

        assert name not in RULES, f"two rules are named {name}"
        RULES[name] = str(sentence.__doc__)
        return ask

    return switchable


@contextmanager
def switched_off(names: frozenset[str]) -> Iterator[None]:
    """Judge without the rules of these names."""
    assert names <= set(RULES), f"no such rules: {sorted(names - set(RULES))}"
    token = _WITHOUT.set(names)
    try:
        yield
    finally:
        _WITHOUT.reset(token)
