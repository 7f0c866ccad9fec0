"""Findings of `goalworker doctor`."""

import enum
from collections.abc import AsyncIterator

import msgspec


class State(enum.StrEnum):
    """State of one part of the installation."""

    OK = "ok"
    WARN = "warn"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """One line of the report: a check, its state, and details with the remedy."""

    check: str
    state: State
    detail: str


Findings = AsyncIterator[Finding]


def ok(check: str, detail: str) -> Finding:
    """Return the finding that something is as it should be."""
    return Finding(check, State.OK, detail)


def warn(check: str, detail: str) -> Finding:
    """Return the finding that something works now, but may fail later."""
    return Finding(check, State.WARN, detail)


def problem(check: str, detail: str) -> Finding:
    """Return the finding that something must be fixed."""
    return Finding(check, State.PROBLEM, detail)


def first_line(error: BaseException) -> str:
    """Return an error's sentence; PostgreSQL names rows in the lines after the first."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".")
