"""Reports about cells, as their databases describe them."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from goalworker import config
from goalworker.admin import cell_comparison, database_connection, findings
from goalworker.config import variables
from goalworker.domain.cells import format_buckets
from goalworker.postgres import database_errors
from goalworker.stores import cell_store

# Foreign tenants with goals that are named, at most.
NAMED_MAX: Final = 20

_TENANTS_WITH_GOALS: Final = "SELECT DISTINCT tenant_id FROM goals WHERE deleted_at IS NULL ORDER BY tenant_id"


async def own(settings: config.Settings) -> dict[str, Any]:
    """Return what this cell owns, the tenants that were moved, and those with goals here that are another cell's."""
    async with database_connection.transaction(settings) as sql:
        stored = await cell_store.read(sql)
        moved = await cell_store.moved_tenants(sql)
        owned = await cell_store.owned(sql, settings.cell.buckets)
        with_goals = [tenant_id for (tenant_id,) in await sql.fetch(_TENANTS_WITH_GOALS)]
    away = {tenant.tenant_id for tenant in moved}
    return {
        "cell_id": None if stored is None else stored.cell_id,
        "buckets": format_buckets(settings.cell.buckets),
        "workers_buckets": None if stored is None else format_buckets(stored.buckets),
        "moved_tenants": moved,
        "foreign_tenants": [each for each in with_goals if not owned.owns(each) and each not in away],
    }


async def compare(settings: config.Settings, urls: Iterable[str]) -> Sequence[findings.Finding]:
    """Compare the cells of these databases, and of that of the settings; GoalworkerError where one is unreachable."""
    of_all = [*([] if settings.database.url is None else [settings.database_url()]), *urls]
    cells, problems = [], []
    for url in dict.fromkeys(of_all):
        name = database_errors.mask_password(url)
        found = await _cell(with_database(settings, url), name)
        if found is None:
            problems.append(findings.problem("cells", f"{name}: no worker was ever started on it, so it owns nothing"))
        else:
            cells.append(found)
    return problems or cell_comparison.compare(cells)


def with_database(settings: config.Settings, url: str) -> config.Settings:
    """Return the settings with another database; SettingsError for a URL that cannot be one."""
    database = config.load({variables.variable("database", "url"): url}, env_file=None, secrets_dir=None).database
    url_of = {"url": database.url}
    return settings.model_copy(update={"database": settings.database.model_copy(update=url_of)})


async def _cell(settings: config.Settings, name: str) -> cell_comparison.KnownCell | None:
    async with database_connection.transaction(settings) as sql:
        stored = await cell_store.read(sql)
        moved = await cell_store.moved_tenants(sql)
    return None if stored is None else cell_comparison.KnownCell(name, stored, tuple(moved))
