"""Worker on a database that nobody has analyzed, and on tables that grow from nothing."""

from tests.kit import support
from tests.kit.worker_process import Installation

_FILL = """
ALTER TABLE enrollments SET (autovacuum_enabled = false);
INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at)
SELECT 'north', 'e' || n, 'w1', 'c' || n, '2026-01-01' FROM generate_series({first}, {last}) AS n
"""


async def test_a_worker_analyzes_tables_before_its_first_batch_and_while_they_grow(installation: Installation) -> None:
    await support.execute(installation.database_url, _FILL.format(first=1, last=1_000))
    async with installation.worker() as worker:
        assert [line["tables"] for line in worker.lines("analyzed")] == [["enrollments"]]
        await support.execute(installation.database_url, _FILL.format(first=1_001, last=11_000))
        await worker.said("analyzed", times=2)
