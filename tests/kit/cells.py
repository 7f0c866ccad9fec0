"""Cells: installations with a database and a group of their own on the topics of another one."""

import contextlib
import dataclasses
from collections.abc import Iterator

from tests.kit import support
from tests.kit.worker_process import Installation


@dataclasses.dataclass(frozen=True, slots=True)
class Cell(Installation):
    """Installation with a group of its own on another one's topics."""

    name: str = ""

    @property
    def group_id(self) -> str:
        return f"group-{self.name}-of-{self.topics['redrive']}"


def cell_of(installation: Installation, name: str, database_url: str, buckets: str) -> Cell:
    """Return a cell on the topics of an installation."""
    return Cell(
        installation.bootstrap_servers,
        database_url,
        installation.topics,
        installation.folder,
        settings={"CELL__BUCKETS": buckets},
        forker=installation.forker,
        name=name,
    )


@contextlib.contextmanager
def two_databases(postgres_url: str, template: str) -> Iterator[tuple[str, str]]:
    """Create two migrated databases, and drop them afterwards."""
    with (
        support.fresh_database(postgres_url, f"TEMPLATE {template}") as first,
        support.fresh_database(postgres_url, f"TEMPLATE {template}") as second,
    ):
        yield support.with_database(postgres_url, first), support.with_database(postgres_url, second)
