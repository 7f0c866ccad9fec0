"""Hooks that crash a worker at any round trip."""

import itertools
from collections.abc import Awaitable
from typing import Any

import pytest

from goalworker.kafka import broker_errors
from goalworker.postgres import connections
from tests.integration import statements


class Crash(BaseException):
    """Sudden end of a process."""


def before(step: int) -> statements.Hook:
    """Return a hook that crashes the process before the given round trip, counted from 0."""
    numbers = itertools.count()

    async def hook(statement: statements.Statement) -> Any:
        if next(numbers) == step:
            raise Crash
        return await statement.run()

    return hook


def after(step: int) -> statements.Hook:
    """Return a hook that crashes the process after the given round trip, before it has the reply."""
    numbers = itertools.count()

    async def hook(statement: statements.Statement) -> Any:
        answer = await statement.run()
        if next(numbers) == step:
            raise Crash
        return answer

    return hook


def after_commit(step: int) -> statements.Hook:
    """Return a hook that crashes the process after the given commit or message: nothing between changes anything."""
    numbers = itertools.count()

    async def hook(statement: statements.Statement) -> Any:
        answer = await statement.run()
        if statement.sql.startswith(("COMMIT", "SEND")) and next(numbers) == step:
            raise Crash
        return answer

    return hook


def cut(step: int, administrator: connections.Connection) -> statements.Hook:
    """Return a hook that cuts the connection of the given round trip, or lets the broker be silent."""
    numbers = itertools.count()

    async def hook(statement: statements.Statement) -> Any:
        if next(numbers) != step:
            return await statement.run()
        if statement.connection is None:
            raise broker_errors.NotAcknowledgedError
        pid = statement.connection.get_server_pid()  # type: ignore[attr-defined]
        await administrator.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
        return await statement.run()

    return hook


def after_facts() -> statements.Hook:
    """Return a hook that crashes the process between the facts and the judgement."""
    transactions = itertools.count()

    async def hook(statement: statements.Statement) -> Any:
        if statement.sql.startswith("BEGIN") and next(transactions) == 1:
            raise Crash
        return await statement.run()

    return hook


async def crashes(hook: statements.Hook, part: Awaitable[Any]) -> None:
    """Run something until the hook crashes it, which must happen."""
    with pytest.raises(Crash), statements.hooked(hook):
        await part


async def survives(hook: statements.Hook, part: Awaitable[Any]) -> bool:
    """Run something; return whether it ended before the hook could crash it."""
    try:
        with statements.hooked(hook):
            await part
    except Crash:
        return False
    return True


async def round_trips(part: Awaitable[Any]) -> list[str]:
    """Run something and return the SQL of its round trips."""
    made: list[str] = []

    async def hook(statement: statements.Statement) -> Any:
        made.append(statement.sql)
        return await statement.run()

    with statements.hooked(hook):
        await part
    return made
