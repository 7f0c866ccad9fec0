"""Comparison of cells: buckets and tenants that nobody owns, or two do (contract section 10)."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import TypeVar

from msgspec import Struct

from goalworker.admin import findings
from goalworker.domain.cells import ALL_BUCKETS, Cell, format_buckets
from goalworker.domain.faults import printable
from goalworker.stores.cell_store import MovedTenant, StoredCell

T = TypeVar("T")


class KnownCell(Struct, frozen=True):
    """Cell as its database describes it; messages call that database `name`."""

    name: str
    stored: StoredCell
    moved: tuple[MovedTenant, ...] = ()

    @property
    def owned(self) -> Cell:
        """Cell that owns the tenants of its buckets, except for tenants that were moved."""
        return Cell(self.stored.buckets, {moved.tenant_id: moved.is_here for moved in self.moved})


def compare(cells: Sequence[KnownCell]) -> list[findings.Finding]:
    """Return what is wrong with cells that share the topics, or that nothing is."""
    problems = [*_copies(cells), *_buckets(cells), *_tenants(cells), *_settings(cells)]
    if problems:
        return problems
    moved = len({moved.tenant_id for cell in cells for moved in cell.moved})
    return [findings.ok("cells", f"{len(cells)} own every bucket once; moved tenants: {moved}, each owned once")]


def _copies(cells: Sequence[KnownCell]) -> Iterator[findings.Finding]:
    for same in _alike(cells, lambda cell: cell.stored.cell_id):
        remedy = "one is a copy of the other, and both would judge its tenants"
        yield findings.problem("cells", f"{_names(same)} are one cell: {remedy}. Start no worker on the copy")


def _buckets(cells: Sequence[KnownCell]) -> Iterator[findings.Finding]:
    if absent := ALL_BUCKETS.difference(*(cell.stored.buckets for cell in cells)):
        remedy = (
            "their tenants' records are skipped. Give them to a cell (GOALWORKER_CELL__BUCKETS), or name its database"
        )
        yield findings.problem("buckets", f"nobody owns {format_buckets(absent)}: {remedy}")
    for one, other in combinations(cells, 2):
        if twice := one.stored.buckets & other.stored.buckets:
            remedy = "both judge their tenants. Take them from one of the two"
            yield findings.problem("buckets", f"{_names([one, other])} own {format_buckets(twice)}: {remedy}")


def _tenants(cells: Sequence[KnownCell]) -> Iterator[findings.Finding]:
    states: defaultdict[str, set[str]] = defaultdict(set)
    for cell in cells:
        for moved in cell.moved:
            states[moved.tenant_id].add(moved.state)
    for tenant_id in sorted(states):
        owners = [cell for cell in cells if cell.owned.owns(tenant_id)]
        name = printable(tenant_id)
        if len(owners) > 1:
            yield findings.problem("tenants", f"{name} was moved, and {_names(owners)} own it: both judge its events")
        elif not owners and "arriving" in states[tenant_id]:
            remedy = "its move was not finished. Run `goalworker tenants move` again"
            yield findings.problem("tenants", f"nobody owns {name}: {remedy}")
        elif not owners:
            remedy = "it was moved to a cell whose database is not named, or that has forgotten it"
            yield findings.problem("tenants", f"nobody owns {name}: {remedy}")


def _settings(cells: Sequence[KnownCell]) -> Iterator[findings.Finding]:
    trusting = [cell for cell in cells if cell.stored.trust_keys]
    if trusting and len(trusting) < len(cells):
        remedy = "a record whose key and event differ would be taken by two cells or by none. Set it in all or in none"
        yield findings.problem("keys", f"GOALWORKER_CELL__TRUST_KEYS is set in {_names(trusting)} only: {remedy}")
    for same in _alike(cells, lambda cell: cell.stored.group_id):
        group = same[0].stored.group_id
        remedy = "on one Kafka each would miss records that the other reads. Give each its GOALWORKER_KAFKA__GROUP_ID"
        yield findings.problem("group", f"{_names(same)} use the consumer group {group}: {remedy}")


def _alike(cells: Sequence[KnownCell], key: Callable[[KnownCell], T]) -> Iterator[list[KnownCell]]:
    by_key: defaultdict[T, list[KnownCell]] = defaultdict(list)
    for cell in cells:
        by_key[key(cell)].append(cell)
    return (same for same in by_key.values() if len(same) > 1)


def _names(cells: Sequence[KnownCell]) -> str:
    return " and ".join(cell.name for cell in cells)
