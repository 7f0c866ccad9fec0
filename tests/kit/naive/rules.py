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

_NOTHING: Final[tuple[set[str], set[str]]] = (set(), set())
_WATCHED: ContextVar[tuple[set[str], set[str]]] = ContextVar("watched", default=_NOTHING)
"""Names of the rules to watch, and of those of them that mattered."""


def rule(otherwise: Callable[..., Any]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function a rule of its own name; `otherwise` answers in its place where the rule is switched off."""

    def switchable(sentence: Callable[P, T]) -> Callable[P, T]:
        name = sentence.__name__

        @functools.wraps(sentence)
        def ask(*args: P.args, **kwargs: P.kwargs) -> T:
            if name in _WITHOUT.get():
                return otherwise(*args, **kwargs)  # type: ignore[no-any-return]
            said = sentence(*args, **kwargs)
            _note(name, said, lambda: otherwise(*args, **kwargs))
            return said

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


@contextmanager
def noted(names: set[str]) -> Iterator[set[str]]:
    """Gather those of the rules that say something else than without them; only they can change the answer."""
    mattering: set[str] = set()
    token = _WATCHED.set((names, mattering))
    try:
        yield mattering
    finally:
        _WATCHED.reset(token)


def _note(name: str, said: object, otherwise: Callable[[], object]) -> None:
    names, mattering = _WATCHED.get()
    if name not in names or name in mattering:
        return
    token = _WATCHED.set(_NOTHING)  # what `otherwise` itself asks is not part of the answer
    try:
        if otherwise() != said:
            mattering.add(name)
    finally:
        _WATCHED.reset(token)
