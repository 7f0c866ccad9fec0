"""The database's own limit: COPY of the rows that goalworker wrote, into the same tables with their indexes."""

import io
import time
from pathlib import Path

import aiokafka
import asyncpg
import sqlalchemy as sa

from goalworker.postgres import tables
from tests.bench import drains

# Without the updates of enrollments, which COPY cannot do.
WRITTEN = (tables.goal_hits, tables.achievements, tables.exits, tables.outbox)
COPY_SECONDS = 600.0
FETCH_MS = 1_000
# The rows were written today, or before midnight.
_MAKE_DAYS = "SELECT goalworker_make_days(ARRAY['goal_hits'], current_date - 1, current_date)"


class Reference:
    """Rows of one run, in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.taken = False

    async def take(self, stage: drains.Stage, url: str) -> None:
        """Export the rows that goalworker has written; those of the outbox are rebuilt from the sent messages."""
        connection = await asyncpg.connect(url, command_timeout=COPY_SECONDS)
        try:
            for topic in ("goal_achieved", "workflow_exit"):
                rows = await _messages(stage, topic)
                await connection.copy_records_to_table("outbox", records=rows, columns=("topic", "key", "value"))
            for table in WRITTEN:
                query = f"SELECT {', '.join(_columns(table))} FROM {table.name}"
                await connection.copy_from_query(query, output=self._file(table), format="binary")
        finally:
            await connection.close()
        self.taken = True

    async def events_per_second(self, stage: drains.Stage) -> float:
        """Copy all rows into a fresh database, all tables at once; return the number of events a second."""
        async with stage.fresh() as url:
            connection = await asyncpg.connect(url, command_timeout=COPY_SECONDS)
            try:
                await connection.execute(_MAKE_DAYS)
                sources = {table: io.BytesIO(self._file(table).read_bytes()) for table in WRITTEN}
                began = time.perf_counter()
                for table, source in sources.items():
                    await connection.copy_to_table(table.name, source=source, columns=_columns(table), format="binary")
                return stage.mix.events / (time.perf_counter() - began)
            finally:
                await connection.close()

    def _file(self, table: sa.Table) -> Path:
        return self._folder / f"{table.name}.copy"


def _columns(table: sa.Table) -> list[str]:
    """Return the columns that goalworker writes, without those that the database fills."""
    return [column.name for column in table.c if column.server_default is None or column.name == "recorded_on"]


async def _messages(stage: drains.Stage, topic: str) -> list[tuple[str, bytes, bytes]]:
    consumer = aiokafka.AIOKafkaConsumer(
        stage.topics[topic], bootstrap_servers=stage.pair.bootstrap_servers, auto_offset_reset="earliest"
    )
    rows: list[tuple[str, bytes, bytes]] = []
    async with consumer:
        while len(rows) < stage.mix.achievements:
            for records in (await consumer.getmany(timeout_ms=FETCH_MS)).values():
                rows += [(topic, record.key, record.value) for record in records]
    return rows
