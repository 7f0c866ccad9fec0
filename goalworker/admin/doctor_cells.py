"""Part of `goalworker doctor` about cells: their buckets, moves that are unfinished, and a group that two share."""

from collections.abc import Collection, Iterator

from goalworker import config
from goalworker.admin import database_connection, findings
from goalworker.domain.cells import BUCKETS, format_buckets
from goalworker.domain.faults import printable
from goalworker.inspection import kafka_connection, kafka_topics
from goalworker.kafka import topic_identity
from goalworker.stores import cell_store


async def examine(settings: config.Settings) -> findings.Findings:
    """Yield the findings about the cell of this database."""
    async with database_connection.transaction(settings) as sql:
        stored = await cell_store.read(sql)
        moved = await cell_store.moved_tenants(sql)
    for finding in examined(settings, stored, moved):
        yield finding
    if stored is not None and (shared := await _shared(settings, stored)):
        group, count = settings.kafka.group_id, len(shared)
        detail = f"offsets of the group {group} in {count} partitions were committed for another database"
        yield findings.problem("cell", f"{detail}: {topic_identity.GROUP_REMEDY}")


def examined(
    settings: config.Settings, stored: cell_store.StoredCell | None, moved: Collection[cell_store.MovedTenant]
) -> Iterator[findings.Finding]:
    """Yield the findings that need no broker."""
    buckets = settings.cell.buckets
    owns = "every bucket" if len(buckets) == BUCKETS else f"the buckets {format_buckets(buckets)}"
    if stored is not None and (stored.buckets, stored.trust_keys) != (buckets, settings.cell.trust_keys):
        with_ = f"GOALWORKER_CELL__BUCKETS={format_buckets(stored.buckets)}"
        keys = f"GOALWORKER_CELL__TRUST_KEYS={str(stored.trust_keys).lower()}"
        yield findings.warn("cell", f"its workers were last started with {with_} and {keys}: set the same here")
    else:
        yield findings.ok("cell", f"this cell owns {owns}; moved tenants: {len(moved)}")
    for tenant in moved:
        if tenant.state == cell_store.ARRIVING:
            remedy = "run `goalworker tenants move` again where it comes from"
            yield findings.warn("cell", f"the move of {printable(tenant.tenant_id)} to here is unfinished: {remedy}")
        elif tenant.state == cell_store.LEAVING:
            waiting = f"{printable(tenant.tenant_id)} is leaving, and its new events may wait"
            yield findings.warn("cell", f"{waiting}: run `goalworker tenants move` again, or with --undo")


async def _shared(settings: config.Settings, stored: cell_store.StoredCell) -> set[object]:
    async with kafka_connection.admin(settings) as client:
        found = await kafka_topics.committed_with_metadata(client, settings.kafka.group_id)
    committed = {partition: topic_identity.decode(at.offset, at.metadata) for partition, at in found.items()}
    return {*topic_identity.of_another_cell(committed, stored.cell_id)}
