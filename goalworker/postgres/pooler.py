"""Connections through a pooler such as PgBouncer, where nothing that a session was set to survives a transaction.

A pooler refuses the startup parameters that limit a session, or drops them silently. In transaction mode, it also runs
each transaction on another connection of the server, where a statement prepared earlier does not exist.
"""

import uuid
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

# Of a server that speaks for itself this is one row for each name; the pid is of the process that greeted us.
_HOLDING: Final = "SELECT FROM pg_settings WHERE pg_backend_pid() = {pid} AND ({conditions})"


class PooledConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection through a pooler: it sets its limits in each transaction and keeps no prepared statement."""

    limits: str

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        """Execute as the driver does; BEGIN carries the limits, in the same round trip."""
        first, _, rest = query.partition(";")
        if first == "BEGIN":
            query = f"BEGIN ISOLATION LEVEL READ COMMITTED; {self.limits}; {rest}"
        return str(await super().execute(query, *args, timeout=timeout))

    async def prepare(self, query: str, *, name: str | None = None, **options: Any) -> Any:
        """Prepare a statement without a name, which leaves nothing behind on the server."""
        return await super().prepare(query, name="", **options)

    def _get_unique_id(self, prefix: str) -> str:
        # The driver counts, and the server's connection may remember the same number from another process.
        return f"__asyncpg_{prefix}_{uuid.uuid4().hex}__"


class ConnectionOpener:
    """Opens connections with limits, and finds out at the first of them whether a pooler stands between."""

    def __init__(self, url: str, limits: Mapping[str, str], **options: Any) -> None:
        """Take limits that fit `pg_settings`, such as milliseconds; options are the driver's, `server_settings` too."""
        self._url = url
        self._limits = limits
        self._options = options
        self._is_pooled = False

    async def open(self) -> asyncpg.Connection:
        """Return a new connection on which the limits hold; a `Pooled` one where they hold in no session."""
        if not self._is_pooled:
            direct = await self._direct()
            if direct is not None:
                return direct
            self._is_pooled = True
        return await self._pooled()

    async def _direct(self) -> asyncpg.Connection | None:
        settings = {**self._options["server_settings"], **self._limits}
        try:
            connection = await asyncpg.connect(self._url, **{**self._options, "server_settings": settings})
        except asyncpg.ProtocolViolationError as error:
            if "startup parameter" not in str(error):
                raise
            return None
        try:
            if await connection.execute(self._question(connection)) == f"SELECT {len(self._limits)}":
                return connection
        except BaseException:
            connection.terminate()
            raise
        await connection.close()
        return None

    def _question(self, connection: asyncpg.Connection) -> str:
        conditions = " OR ".join(
            f"lower(name) = '{name}' AND lower(setting) = lower('{value}')" for name, value in self._limits.items()
        )
        return _HOLDING.format(pid=connection.get_server_pid(), conditions=conditions)

    async def _pooled(self) -> PooledConnection:
        connection: PooledConnection = await asyncpg.connect(
            self._url, **self._options, connection_class=PooledConnection, statement_cache_size=0
        )
        connection.limits = "; ".join(
            f"SET LOCAL {name} = '{value}'" for name, value in self._limits.items() if not name.startswith("default_")
        )
        return connection
