"""What `goalworker doctor` finds."""

import enum
from collections.abc import AsyncIterator

import msgspec


class State(enum.StrEnum):
    """How something is."""

    OK = "ok"
    WARN = "warn"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """One line: what was looked at, how it is, and what to do where it is not well."""

    check: str
    state: State
    detail: str


Findings = AsyncIterator[Finding]


def ok(check: str, detail: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(check, State.OK, detail)


def warn(check: str, detail: str) -> Finding:
    """Return that something works, but may not for long."""
    return Finding(check, State.WARN, detail)


def problem(check: str, detail: str) -> Finding:
    """Return that something has to be put right."""
    return Finding(check, State.PROBLEM, detail)


def first_line(error: BaseException) -> str:
    """Return an error's sentence; PostgreSQL names rows in the lines after the first."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".")
