"""The route of seen values: what events have had in the fields that goals ask about."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from goalworker.api import auth, openapi, parameters, problems
from goalworker.domain import seen_values
from goalworker.domain.faults import Fault
from goalworker.domain.unseen_values import SeenValue
from goalworker.postgres import connections
from goalworker.stores import value_suggestions

router = APIRouter(tags=[openapi.INSIGHT])


@router.get(
    "/api/v1/seen-values",
    summary="List values that events had",
    **openapi.answers(200, "Values, the most frequent first", "SeenValues", others=[problems.INVALID]),
)
async def list_seen_values(
    caller: auth.Reader, context: parameters.InContext, query: Annotated[parameters.SeenValuesQuery, Query()]
) -> Response:
    """List the values that events of a type have had in a field within 90 days, with how often and when they came.

    Values are counted by `goalworker insight`: of every event, whether its contact is enrolled or not.
    """
    fields = seen_values.FIELDS[query.type]
    if query.field not in fields:
        sentence = f"`field` must be one that is counted of {query.type}: {', '.join(fields)}"
        raise problems.invalid([Fault("?field", sentence)])
    async with connections.tenant_transaction(context.pool, caller.tenant_id, "seen_values") as connection:
        found = await value_suggestions.frequent(
            connection, caller.tenant_id, query.type, query.field, limit=query.limit, prefix=query.prefix or ""
        )
    return parameters.json_answer([_answer(query.field, one) for one in found])


def _answer(field: str, one: SeenValue) -> dict[str, Any]:
    value: str | dict[str, str] = one.value
    if field == seen_values.STAGE:
        pipeline_id, stage_id = seen_values.parts_of_stage(one.value)
        value = {"pipeline_id": pipeline_id, "stage_id": stage_id}
    return {
        "value": value,
        "label": one.label,
        "count": one.count,
        "first_seen": one.first_seen,
        "last_seen": one.last_seen,
    }
