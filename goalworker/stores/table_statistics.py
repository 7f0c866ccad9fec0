"""The planner's statistics of our tables: made anew whenever a table has grown tenfold, without waiting for autovacuum.

Plans that were made while tables were empty would otherwise stay, and read tables as a whole that have grown since.
"""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker.postgres import connections, tables

# Pages from which on it matters how a table is read, and the growth after which statistics are made anew.
_PAGES_MIN: Final = 10
_GROWTH: Final = 10

_LOCK: Final = f"SELECT pg_try_advisory_xact_lock({connections.STATISTICS_LOCK})"

# An index that is made counts pages, too, so a table that was never analyzed is taken whatever they are. The server
# forgets the times when it crashes, and without track_counts it never has them, so a process takes a table again only
# once it has grown.
_NEXT: Final = f"""
WITH ours AS MATERIALIZED (
    SELECT to_regclass(name)::oid AS oid FROM unnest($1::text[]) AS name
), sized AS MATERIALIZED (
    SELECT c.oid::regclass::text AS name, c.relpages,
        pg_relation_size(c.oid) / current_setting('block_size')::int AS pages,
        greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) AS analyzed_at
    FROM (SELECT oid FROM ours UNION ALL SELECT inhrelid FROM pg_inherits JOIN ours ON inhparent = oid) AS part
    JOIN pg_class c USING (oid)
    WHERE c.relkind = 'r'
)
SELECT sized.name, sized.pages
FROM sized LEFT JOIN unnest($2::text[], $3::bigint[]) AS taken (name, pages) USING (name)
WHERE sized.pages >= {_PAGES_MIN} AND (sized.pages >= {_GROWTH} * relpages OR analyzed_at IS NULL)
    AND sized.pages >= {_GROWTH} * coalesce(taken.pages, 0)
ORDER BY sized.pages LIMIT 1
"""
_ANALYZE: Final = "SELECT goalworker_analyze($1::text::regclass)"
_OURS: Final = tuple(table.name for table in tables.metadata.sorted_tables)

Pages = dict[str, int]
"""Pages that tables had when a process analyzed them, by their names."""


async def analyze_grown(pool: AsyncEngine, taken: Pages | None = None) -> list[str]:
    """Analyze the tables that were never analyzed, or have grown tenfold since; return their names.

    `taken` has what this process analyzed before, and is added to. A table that is locked is left for the next time.
    """
    taken = {} if taken is None else taken
    looked_at, analyzed = dict(taken), list[str]()
    while found := await _analyze_next(pool, looked_at):
        name, pages, is_analyzed = found
        looked_at[name] = pages
        if is_analyzed:
            taken[name] = pages
            analyzed.append(name)
    return analyzed


async def _analyze_next(pool: AsyncEngine, taken: Pages) -> tuple[str, int, bool] | None:
    """Try to analyze one table in a transaction of its own; None if no table needs it, or another process is at it.

    Return its name and pages, and whether it was analyzed.
    """
    async with connections.transaction(pool, tables.WORKER_ROLE, "statistics") as connection:
        row = await connection.fetchrow(_NEXT, _OURS, list(taken), list(taken.values()))
        if row is None or not await connection.fetchval(_LOCK):
            return None
        name, pages = row
        return name, pages, await connection.fetchval(_ANALYZE, name)
