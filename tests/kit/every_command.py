"""Every command, with arguments for an ordinary call and the servers that it needs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass
from typing import Any

from goalworker import __main__ as command_line
from tests.kit import measuring
from tests.kit.forker import Outcome

GOAL = "11111111-1111-4111-8111-111111111111"
TENANT = ("--tenant", "acme")
MESSAGE = (
    b'{"specversion": "1.0", "id": "e1", "source": "/crm", "type": "form.submitted", "tenantid": "acme",'
    b' "data": {"contact_id": "ann", "form_id": "f1"}}'
)
GOALS = b'{"workflows": [{"workflow_id": "w", "goals": []}]}'
TOPIC = "{form_submitted}"
DATABASE, BROKER = "database", "broker"
# Commands that run at a time: they wait for servers most of their time.
AT_A_TIME = 4


@dataclass(frozen=True, slots=True)
class Use:
    """Arguments after a command's name, its stdin, and the servers that it needs."""

    words: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    stdin: bytes = b""


# A command that is missing here fails a test: add it, so that its errors are tested too.
USES: Mapping[str, Use] = {
    "run": Use(needs=(DATABASE, BROKER)),
    "api": Use(("--port", "0"), needs=(DATABASE,)),
    "insight": Use(needs=(DATABASE, BROKER)),
    "demo": Use(),  # starts its own servers
    "doctor": Use(needs=(DATABASE, BROKER)),
    "db upgrade": Use(needs=(DATABASE,)),
    "db current": Use(needs=(DATABASE,)),
    "db check": Use(needs=(DATABASE,)),
    "db roles": Use(),
    "topics create": Use(needs=(BROKER,)),
    "topics list": Use(needs=(DATABASE, BROKER)),
    "topics resume": Use((TOPIC,), needs=(DATABASE,)),
    "topics skip": Use((TOPIC, "0", "--offset", "0"), needs=(BROKER,)),
    "topics audit": Use(needs=(DATABASE,)),
    "tenants move": Use(("acme", "--to", "postgresql://goalworker@127.0.0.1:1/none"), needs=(DATABASE,)),
    "cells check": Use(needs=(DATABASE,)),
    "goals list": Use(TENANT, needs=(DATABASE,)),
    "goals get": Use((GOAL, *TENANT), needs=(DATABASE,)),
    "goals create": Use(("w", "--type", "form_submitted", "--criteria", "form_id=f1", *TENANT), needs=(DATABASE,)),
    "goals update": Use((GOAL, "--name", "n", *TENANT), needs=(DATABASE,)),
    "goals pause": Use((GOAL, *TENANT), needs=(DATABASE,)),
    "goals resume": Use((GOAL, *TENANT), needs=(DATABASE,)),
    "goals delete": Use((GOAL, *TENANT), needs=(DATABASE,)),
    "goals explain": Use(("w", "--contact", "c", *TENANT), needs=(DATABASE,)),
    "goals set-logic": Use(("w", "all", *TENANT), needs=(DATABASE,)),
    "goals apply": Use(("-", *TENANT), needs=(DATABASE,), stdin=GOALS),
    "goals plan": Use(("-", *TENANT), needs=(DATABASE,), stdin=GOALS),
    "goals backfill": Use((GOAL, "--from", "PT1H", *TENANT), needs=(DATABASE,)),
    "keys create": Use(("--scope", "goals:read", "--name", "n", *TENANT), needs=(DATABASE,)),
    "keys list": Use(TENANT, needs=(DATABASE,)),
    "keys revoke": Use((GOAL, *TENANT), needs=(DATABASE,)),
    "check-event": Use(("--topic", TOPIC, "-"), needs=(DATABASE,), stdin=MESSAGE),
    "dlq list": Use(needs=(BROKER,)),
    "dlq show": Use(("0:0",), needs=(BROKER,)),
    "dlq stats": Use(needs=(BROKER,)),
    "dlq redrive": Use(needs=(BROKER,)),
    "dlq purge": Use(("--all", "--yes"), needs=(BROKER,)),
    "lag": Use(needs=(BROKER,)),
    "outbox status": Use(needs=(DATABASE,)),
    "config show": Use(),
    "config docs": Use(),
    "schema export": Use(("exported",)),
}


def names() -> Iterator[str]:
    """Yield the name of every command."""
    for name in command_line.COMMANDS:
        yield from _leaves(command_line.load(name), name)


def needing(server: str) -> list[str]:
    """Return the commands that use a server."""
    return [name for name, use in USES.items() if server in use.needs]


def words(name: str, topics: Mapping[str, str]) -> list[str]:
    """Return the complete command line of a command, without `goalworker`."""
    return [*name.split(), *(word.format_map(topics) if word.startswith("{") else word for word in USES[name].words)]


def outcomes(names: Iterable[str], call: Callable[[str], Outcome]) -> dict[str, Outcome]:
    """Call commands that do not affect each other, a few at a time, of which the first few are measured."""
    ordered = list(names)
    with futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        measured = list(pool.map(call, ordered[:AT_A_TIME]))
        with measuring.switched_off():
            return dict(zip(ordered, [*measured, *pool.map(call, ordered[AT_A_TIME:])], strict=True))


def _leaves(command: Any, name: str) -> Iterator[str]:
    parts = getattr(command, "commands", None)
    if parts is None:
        yield name
    else:
        for part, subcommand in parts.items():
            yield from _leaves(subcommand, f"{name} {part}")
