"""Pages of dead letters: counts by topic and reason, the tenant's own letters, and what a redrive would send.

Who may read may see how many letters there are. What is in them is shown only to the tenant that they belong to.
"""

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from goalworker import metrics
from goalworker.api import parameters, problems
from goalworker.console import health_page, kafka_answers, letter_filters, rendering, visitors
from goalworker.inspection import dead_letter_report, newest_letters, open_letters

LETTERS: Final = f"{health_page.HEALTH}/dead-letters"
REDRIVE: Final = f"{health_page.HEALTH}/redrive"
ROWS_MAX: Final = 50
_OFFSET_MAX: Final = 2**63 - 1

router = APIRouter(include_in_schema=False)


@router.get(LETTERS)
async def show_letters(request: Request, visitor: visitors.Reader, context: parameters.InContext) -> Response:
    """Show how many dead letters there are, and the visitor's own."""
    filters, choices = _filters(request, context)
    found = await kafka_answers.of(request).newest_letters()
    tenant_id = visitor.caller.tenant_id
    name = "_dead_letters.html" if rendering.is_fragment(request) else "dead_letters.html"
    values = _of_letters(found, filters, tenant_id)
    command = filters.command("list", tenant_id)
    return rendering.page(request, visitor, name, filters=filters, command=command, **values, **choices)


def _of_letters(
    found: newest_letters.NewestLetters | kafka_answers.Unanswered, filters: letter_filters.Filters, tenant_id: str
) -> dict[str, Any]:
    if isinstance(found, kafka_answers.Unanswered):
        return {"unanswered": found, "letters": None, "counts": [], "own": [], "more": 0}
    described = [letter.described for letter in found.of_tenant(tenant_id)]
    own = [letter for letter in described if filters.match(letter["original_topic"], letter["reason"])]
    counts = found.counts(tenant_id)
    more = max(0, len(own) - ROWS_MAX)
    return {"unanswered": None, "letters": found, "counts": counts, "own": own[:ROWS_MAX], "more": more}


@router.get(f"{LETTERS}/{{partition:int}}/{{offset:int}}")
async def show_letter(request: Request, visitor: visitors.Reader, partition: int, offset: int) -> Response:
    """Show one dead letter of the visitor's tenant, contact ids masked unless the query asks for them."""
    is_revealed = request.query_params.get("reveal") == "true"
    tenant_id = visitor.caller.tenant_id
    answers = kafka_answers.of(request)
    can_be = max(partition, offset) <= _OFFSET_MAX
    found = await answers.letter(tenant_id, partition, offset, revealed=is_revealed) if can_be else None
    if found is None:
        raise problems.ProblemError(problems.NOT_FOUND, "Your tenant has no dead letter there")
    return rendering.page(
        request,
        visitor,
        "_dead_letter.html" if rendering.is_fragment(request) else "dead_letter.html",
        **kafka_answers.split(found, "letter"),
        position=f"{partition}:{offset}",
        address=f"{LETTERS}/{partition}/{offset}",
    )


@router.get(REDRIVE)
async def show_redrive(request: Request, visitor: visitors.Reader, context: parameters.InContext) -> Response:
    """Show what a redrive of the visitor's letters would send; nothing is sent."""
    filters, choices = _filters(request, context)
    tenant_id = visitor.caller.tenant_id
    found = None
    if not filters.faults:
        answers = kafka_answers.of(request, kafka_answers.PREVIEW_SECONDS)
        found = await answers.preview(filters.selection(tenant_id))
    return rendering.page(
        request,
        visitor,
        "redrive.html",
        400 if filters.faults else 200,
        **kafka_answers.split(found, "preview"),
        ranked=dead_letter_report.rank(found.counts) if isinstance(found, open_letters.Preview) else [],
        filters=filters,
        dry_run=filters.command("redrive", tenant_id, "--dry-run"),
        command=filters.command("redrive", tenant_id),
        **choices,
    )


def _filters(request: Request, context: parameters.Context) -> tuple[letter_filters.Filters, dict[str, Any]]:
    """Return the filters in the query, and the choices of a form for them."""
    topics = list(context.settings.topics.inputs)
    return letter_filters.parse(request.query_params, topics), {"topics": topics, "reasons": metrics.REASONS}
