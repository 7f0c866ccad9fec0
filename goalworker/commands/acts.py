"""The acts of operators, as they stand in the database: who resumed or skipped what, and when."""

from typing import Any, Final

import msgspec

from goalworker import database
from goalworker.commands import common

_RECORD: Final = "INSERT INTO operator_acts (actor, action, detail) VALUES ($1, $2, $3::jsonb)"
_LIST: Final = "SELECT at, actor, action, detail FROM operator_acts ORDER BY id"

TOPIC_RESUMED: Final = "topic_resumed"
RECORD_SKIPPED: Final = "record_skipped"


async def record(sql: database.Connection, action: str, **detail: object) -> None:
    """Record an act of whoever runs this command, in the transaction that carries it out."""
    await sql.execute(_RECORD, common.actor(), action, msgspec.json.encode(detail).decode())


async def every(sql: database.Connection) -> list[dict[str, Any]]:
    """Return all acts, oldest first."""
    return [dict(row) for row in await sql.fetch(_LIST)]
