"""Acts of operators in the database: who resumed a topic or skipped a record, and when."""

import getpass
import os
from typing import Any, Final

import msgspec

from goalworker.postgres import connections

_RECORD: Final = "INSERT INTO operator_acts (actor, action, detail) VALUES ($1, $2, $3::jsonb)"
_LIST: Final = "SELECT at, actor, action, detail FROM operator_acts ORDER BY id"

TOPIC_RESUMED: Final = "topic_resumed"
RECORD_SKIPPED: Final = "record_skipped"


async def record(sql: connections.Connection, action: str, **detail: object) -> None:
    """Record an act of the current user, in the transaction that carries it out."""
    await sql.execute(_RECORD, actor(), action, msgspec.json.encode(detail).decode())


async def list_acts(sql: connections.Connection) -> list[dict[str, Any]]:
    """Return all acts, oldest first."""
    return [dict(row) for row in await sql.fetch(_LIST)]


def actor() -> str:
    """Return the name under which the audit records acts from the shell."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user without a name
        return f"cli:{os.getuid()}"
