"""Tables of cells: which cell a database is, and the tenants that were moved (contract section 10)."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from goalworker.postgres.columns import id_, metadata, text_, time_, uuid_

# No tenant_id: the cell that this database is (contract section 10), as its workers were last started.
cell = sa.Table(
    "cell",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    uuid_("cell_id"),
    id_("group_id"),
    text_("buckets"),
    sa.Column("trust_keys", sa.Boolean, nullable=False),
    time_("written_at"),
    sa.CheckConstraint("id = 1", name="one_row"),
)

# Tenants that were moved from one cell to another: a row in both databases, which overrides the tenant's bucket.
# copied_until is the transaction of the source up to which an arriving tenant is copied. bounds are the offsets before
# which a cell judges the records of a tenant that is leaving, and from which its workers judge those of one that has
# come. What lies between the two is read again, and replay_from says from where on it still is to be. Its history goes
# back to history_from, with events of everyone from all_since on; this database keeps what came since kept_since by
# itself. keep_from is where the events begin that the mover has still to keep.
moved_tenants = sa.Table(
    "moved_tenants",
    metadata,
    id_("tenant_id", primary_key=True),
    text_("state"),
    uuid_("other_cell"),
    time_("changed_at"),
    sa.Column("copied_until", sa.BigInteger, nullable=True),
    sa.Column("replay_from", pg.JSONB, nullable=True),
    sa.Column("bounds", pg.JSONB, nullable=True),
    time_("history_from", nullable=True),
    time_("all_since", nullable=True),
    time_("kept_since", nullable=True),
    sa.Column("keep_from", pg.JSONB, nullable=True),
    sa.CheckConstraint("state in ('arriving', 'here', 'leaving', 'away')", name="state"),
)
