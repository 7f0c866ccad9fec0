"""Scans of each index, counted by the server while the bench runs: an index that nothing reads only costs."""

from collections.abc import Iterator
from typing import Any

import asyncpg

from tests.bench import seed
from tests.kit import support

# Of a partitioned table, the indexes of all partitions count as one.
_SCANS = """
SELECT t.relname, i.relname, x.indisunique, sum(pg_stat_get_numscans(x.indexrelid))::bigint,
    sum(pg_relation_size(x.indexrelid))::bigint
FROM pg_index x
LEFT JOIN pg_inherits of_index ON of_index.inhrelid = x.indexrelid
LEFT JOIN pg_inherits of_table ON of_table.inhrelid = x.indrelid
JOIN pg_class i ON i.oid = coalesce(of_index.inhparent, x.indexrelid)
JOIN pg_class t ON t.oid = coalesce(of_table.inhparent, x.indrelid)
WHERE t.relnamespace = 'public'::regnamespace
GROUP BY 1, 2, 3
"""
# A server process adds its counts when it ends, if not before.
_CLIENTS = f"""
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND application_name <> '{seed.APPLICATION}'
"""

Key = tuple[str, str, bool]
"""Table, index, and whether the index is unique, which writes read without being counted."""


class Scans:
    """The most scans and the largest size of each index in one of the databases that were noted."""

    def __init__(self) -> None:
        self._most: dict[Key, tuple[int, int]] = {}

    async def note(self, url: str) -> None:
        """Add a database, once nobody else is connected to it."""
        connection = await asyncpg.connect(url)

        async def is_alone() -> bool:
            return not await connection.fetchval(_CLIENTS)

        try:
            await support.until(is_alone)
            for table, index, is_unique, scans, size in await connection.fetch(_SCANS):
                before = self._most.get((table, index, is_unique), (0, 0))
                self._most[table, index, is_unique] = max(before[0], scans), max(before[1], size)
        finally:
            await connection.close()

    def unread(self) -> list[dict[str, Any]]:
        """Return the indexes that no database ever scanned, the largest first."""
        found = [(size, *key) for key, (scans, size) in self._most.items() if not scans]
        return [
            {"table": table, "index": index, "unique": is_unique, "largest_bytes": size}
            for size, table, index, is_unique in sorted(found, reverse=True)
        ]


def lines(unread: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each index that nothing read."""
    yield "indexes that nothing read (a unique one still keeps rows apart):"
    for row in unread:
        kind = ", unique" if row["unique"] else ""
        yield f"  {row['table']}: {row['index']}{kind}, at most {row['largest_bytes']:,} bytes"
