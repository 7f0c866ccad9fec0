"""Connections through a pooler such as PgBouncer, where session settings do not survive a transaction.

A pooler refuses the startup parameters that limit a session, or drops them silently. In transaction mode, it also runs
each transaction on another connection of the server, where a statement prepared earlier does not exist.
"""

import uuid
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

# A direct connection returns one row for each setting that holds; behind a pooler, the backend has another pid.
_HOLDING: Final = "SELECT FROM pg_settings WHERE pg_backend_pid() = {pid} AND ({conditions})"


class PooledConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection through a pooler: it applies its settings in each transaction and keeps no prepared statement."""

    set_local: str

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        """Execute as the driver does, but send the settings along with BEGIN, in the same round trip."""
        first, _, rest = query.partition(";")
        if first == "BEGIN":
            query = f"BEGIN ISOLATION LEVEL READ COMMITTED; {self.set_local}; {rest}"
        return str(await super().execute(query, *args, timeout=timeout))

    async def prepare(self, query: str, *, name: str | None = None, **options: Any) -> Any:
        """Prepare an unnamed statement, which leaves nothing behind on the server."""
        return await super().prepare(query, name="", **options)

    def _get_unique_id(self, prefix: str) -> str:
        # The driver counts, but another process may have used the same number on this connection of the server.
        return f"__asyncpg_{prefix}_{uuid.uuid4().hex}__"


def is_pooled(connection: object) -> bool:
    """Say whether a connection goes through a pooler; isinstance() takes every connection of asyncpg for one."""
    return issubclass(type(connection), PooledConnection)


class ConnectionOpener:
    """Opener of connections with session settings, which detects at the first one whether there is a pooler."""

    def __init__(self, url: str, session_settings: Mapping[str, str], **options: Any) -> None:
        """Take session settings in the units of `pg_settings`, such as milliseconds, and options of the driver."""
        self._url = url
        self._session_settings = session_settings
        self._options = options
        self._is_pooled = False

    async def open(self) -> asyncpg.Connection:
        """Return a new connection on which the session settings hold; through a pooler, a `PooledConnection`."""
        if not self._is_pooled:
            direct = await self._open_direct()
            if direct is not None:
                return direct
            self._is_pooled = True
        return await self._open_pooled()

    async def _open_direct(self) -> asyncpg.Connection | None:
        settings = {**self._options["server_settings"], **self._session_settings}
        try:
            connection = await asyncpg.connect(self._url, **{**self._options, "server_settings": settings})
        except asyncpg.ProtocolViolationError as error:
            if "startup parameter" not in str(error):
                raise
            return None
        try:
            if await connection.execute(self._settings_query(connection)) == f"SELECT {len(self._session_settings)}":
                return connection
        except BaseException:
            connection.terminate()
            raise
        await connection.close()
        return None

    def _settings_query(self, connection: asyncpg.Connection) -> str:
        conditions = " OR ".join(
            f"lower(name) = '{name}' AND lower(setting) = lower('{value}')"
            for name, value in self._session_settings.items()
        )
        return _HOLDING.format(pid=connection.get_server_pid(), conditions=conditions)

    async def _open_pooled(self) -> PooledConnection:
        connection: PooledConnection = await asyncpg.connect(
            self._url, **self._options, connection_class=PooledConnection, statement_cache_size=0
        )
        connection.set_local = "; ".join(
            f"SET LOCAL {name} = '{value}'"
            for name, value in self._session_settings.items()
            if not name.startswith("default_")
        )
        return connection
