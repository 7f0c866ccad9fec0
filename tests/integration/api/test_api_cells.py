"""The API of a cell refuses the tenants of others (contract section 10)."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from goalworker.domain.cells import bucket_of, format_buckets
from goalworker.postgres import connections
from tests.kit import running_api
from tests.kit.running_api import GOALS, OTHER, TAG, TENANT, problem

BUCKETS = {bucket_of(TENANT)}


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[running_api.Api]:
    """An API that owns the bucket of one tenant."""
    variables = {**running_api.TOKENS, "GOALWORKER_CELL__BUCKETS": format_buckets(BUCKETS)}
    async with running_api.running(database_url, variables) as api:
        yield api


async def test_a_foreign_tenant_is_told_that_another_cell_has_it(api: running_api.Api) -> None:
    async with api.holder(tenant_id=OTHER) as client, api.holder() as own:
        for answer in (await client.get(GOALS), await client.post(GOALS, json=TAG)):
            problem(answer, 421, "foreign-tenant")
            assert f"The tenant {OTHER} belongs to another cell" in answer.json()["detail"]
        assert (await own.get(GOALS)).status_code == 200


async def test_a_tenant_that_was_moved_is_answered_where_it_is(
    api: running_api.Api, administrator: connections.Connection
) -> None:
    insert = "INSERT INTO moved_tenants VALUES ($1, $2, $3, now())"
    await administrator.execute(insert, OTHER, "here", UUID(int=1))
    await administrator.execute(insert, TENANT, "away", UUID(int=1))
    async with api.holder(tenant_id=OTHER) as came, api.holder() as went:
        assert (await came.get(GOALS)).status_code == 200
        problem(await went.get(GOALS), 421, "foreign-tenant")
