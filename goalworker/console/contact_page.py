"""The contact's page: search, timeline, and why each goal was achieved or not."""

import asyncio
import hashlib
from typing import Annotated, Any, Final
from urllib import parse

from fastapi import APIRouter, Query, Request
from msgspec import structs
from starlette.responses import RedirectResponse, Response

from goalworker.api import explaining_contacts, parameters, problems
from goalworker.console import (
    contact_links,
    contact_query,
    contact_view,
    explanation_view,
    kafka_answers,
    rendering,
    visitors,
)
from goalworker.console.contact_addresses import Addresses
from goalworker.domain import faults, phrases
from goalworker.domain.faults import printable
from goalworker.domain.text import TEXT_RULE, is_valid_text
from goalworker.inspection import contact_letters
from goalworker.stores import contact_timeline

router = APIRouter(include_in_schema=False)

_CONTACTS: Final = contact_links.CONTACTS
_EXPLAINED_MAX: Final = 3
"""Workflows whose goals are explained along with the page, at most; each explanation is an entry of the audit."""

Values = dict[str, Any]


# --- search ---


@router.get(_CONTACTS)
async def find_contact(request: Request, visitor: visitors.Reader, contact_id: str | None = None) -> Response:
    """Show the search, or redirect to the page of a contact that another tool names."""
    if contact_id is None:
        return rendering.page(request, visitor, "contact_search.html")
    return _to_contact(request, visitor, contact_id)


@router.post(_CONTACTS)
async def search_contact(request: Request, visitor: visitors.Sender) -> Response:
    """Redirect to the page of the contact whose id was pasted, without the blanks around it."""
    form = await visitors.form(request)
    return _to_contact(request, visitor, form.get("contact", "").strip())


def _to_contact(request: Request, visitor: visitors.Visitor, contact_id: str) -> Response:
    if not is_valid_text(contact_id):
        raise problems.invalid([faults.Fault("contact_id", f"A contact's id {TEXT_RULE}")])
    return RedirectResponse(contact_links.address(request, visitor, contact_id), 303, rendering.HEADERS)


# --- the timeline ---


@router.get(f"{_CONTACTS}/{{token}}")
async def show_contact(
    request: Request,
    visitor: visitors.Reader,
    context: parameters.InContext,
    token: str,
    kind: Annotated[list[str] | None, Query()] = None,
    workflow_id: str = "",
    cursor: str | None = None,
    reveal: str = "",
) -> Response:
    """Show a page of a contact's timeline, newest first; 404 where nothing is known of it."""
    contact_id = contact_links.of_path(request, visitor, token)
    filters = contact_query.Filters(_workflow(workflow_id), _kinds(kind), cursor)
    whose = (visitor.caller.tenant_id, contact_id)
    known = await contact_query.read(context.pool, *whose, filters, context.settings.events.lateness)
    mask = _mask(contact_id, reveal)
    own = Addresses(contact_links.address(request, visitor, contact_id), bool(reveal))
    values = {
        **_of_timeline(known, filters, own),
        "mask": mask,
        "days": contact_view.days(known.page.entries, _scene(visitor, mask, known)),
        "workflows": _workflows(known, own),
    }
    return rendering.page(request, visitor, "contact.html", status=200 if known.is_known else 404, **values)


def _kinds(given: list[str] | None) -> tuple[str, ...]:
    return tuple([kind for kind in contact_timeline.KINDS if kind in (given or ())]) or contact_timeline.KINDS


def _workflow(given: str) -> str | None:
    return given if is_valid_text(given) else None


def _mask(contact_id: str, reveal: str) -> contact_view.Mask:
    return contact_view.Mask(contact_id, printable(contact_id if reveal else contact_links.masked(contact_id)))


def _scene(visitor: visitors.Visitor, mask: contact_view.Mask, known: contact_query.Known) -> contact_view.Scene:
    goals = {named.goal.goal_id: named for named in known.goals}
    return contact_view.Scene(visitor.caller.tenant_id, mask, goals)


def _of_timeline(known: contact_query.Known, filters: contact_query.Filters, own: Addresses) -> Values:
    coverage = _coverage(known)
    before = known.page.before
    first = structs.replace(filters, cursor=None)
    older = None if before is None else structs.replace(filters, cursor=contact_timeline.cursor_of(before))
    named = [contact_view.workflow_of(entry.fact) for entry in known.page.entries]
    entered = [one.workflow_id for one in known.workflows.entered]
    choices = dict.fromkeys(filter(None, [*entered, filters.workflow_id, *named]))
    return {
        "is_known": known.is_known,
        "is_revealed": own.is_revealed,
        "is_filtered": filters.are_set,
        "unknown": explanation_view.nothing_known(coverage),
        "coverage": coverage,
        "more_workflows": known.workflows.has_more,
        "choices": [{"id": one, "name": printable(one)} for one in choices],
        "chosen": filters.workflow_id,
        "kinds": filters.kinds,
        "all_kinds": contact_timeline.KINDS,
        "links": {
            "page": own.page,
            "explanations": f"{own.page}/explanations",
            "letters": own.letters(),
            "revealed": own.timeline(filters, is_revealed=True),
            "masked": own.timeline(filters, is_revealed=False),
            "newest": None if filters.cursor is None else own.timeline(first),
            "older": None if older is None else own.timeline(older),
        },
    }


def _coverage(known: contact_query.Known) -> tuple[str, ...]:
    sentences = explanation_view.coverage(known.coverage, keeps_all=known.keeps_all)
    if known.workflows.is_whole:
        return sentences
    searched = phrases.counted(len(known.workflows.searched), "workflow")
    return (*sentences, f"Hits were looked for in {searched}; choose another one to look there.")


def _workflows(known: contact_query.Known, own: Addresses) -> list[Values]:
    """Return the workflows that the contact entered, and others that its entries name."""
    entered = known.workflows.entered
    named = dict.fromkeys(filter(None, (contact_view.workflow_of(entry.fact) for entry in known.page.entries)))
    others = [
        contact_timeline.OfWorkflow(one, 0, 0, None) for one in named if one not in {of.workflow_id for of in entered}
    ]
    return [
        {
            "name": printable(one.workflow_id),
            "id": one.workflow_id,
            "enrollments": one.enrollments,
            "enrollments_href": own.timeline(contact_query.Filters(one.workflow_id, (contact_timeline.ENROLLMENTS,)))
            + "#timeline",
            "open": one.open_enrollments,
            "last_at": one.last_enrolled_at,
            "explain_href": own.explanations(one.workflow_id),
            "is_explained": number < _EXPLAINED_MAX,
        }
        for number, one in enumerate([*entered, *others])
    ]


# --- explanations ---


@router.get(f"{_CONTACTS}/{{token}}/explanations")
async def explain_contact(
    request: Request,
    visitor: visitors.Reader,
    context: parameters.InContext,
    token: str,
    workflow_id: str = "",
    enrollment_id: str | None = None,
    reveal: str = "",
) -> Response:
    """Explain the goals of one workflow: a fragment for htmx, or a page."""
    contact_id = contact_links.of_path(request, visitor, token)
    if not is_valid_text(workflow_id) or not is_valid_text(enrollment_id or "-"):
        raise problems.ProblemError(problems.NOT_FOUND, "Unknown workflow or enrollment: its id is malformed")
    known = await explaining_contacts.known_of(
        visitor.caller, context, workflow_id, contact_id, enrollment_id=enrollment_id
    )
    mask = _mask(contact_id, reveal)
    names = await contact_query.goal_names(context.pool, visitor.caller.tenant_id, workflow_id)
    # A contact may have very many events; other requests go on meanwhile.
    found = await asyncio.to_thread(explanation_view.explain, known, explanation_view.Words(mask, names))
    own = Addresses(contact_links.address(request, visitor, contact_id), bool(reveal))
    is_fragment = rendering.is_fragment(request)
    template = "_contact_explanations.html" if is_fragment else "contact_explanations.html"
    return rendering.page(request, visitor, template, mask=mask, **_of_explanations(workflow_id, found, own, mask))


def _of_explanations(
    workflow_id: str, found: explanation_view.OfWorkflow, own: Addresses, mask: contact_view.Mask
) -> Values:
    others = [
        {"name": one.shown_id, "at": one.enrolled_at, "href": own.explanations(workflow_id, one.enrollment_id)}
        for one in found.others
    ]
    workflow = parameters.WORKFLOW.format(workflow_id=parse.quote(workflow_id, safe=""))
    contact = parse.quote(mask.contact_id, safe="") if own.is_revealed else mask.label
    return {
        "workflow_id": workflow_id,
        "workflow_name": printable(workflow_id),
        "prefix": hashlib.sha256(workflow_id.encode()).hexdigest()[:8],
        "enrollments": found.enrollments,
        "others": others,
        "coverage": found.coverage,
        "contact_href": own.timeline(contact_query.Filters()),
        "calls": [f"GET {workflow}/{of}?contact_id={contact}" for of in ("explanations", "achievements")],
    }


# --- dead letters ---


@router.get(f"{_CONTACTS}/{{token}}/dead-letters")
async def search_letters(request: Request, visitor: visitors.Reader, token: str, reveal: str = "") -> Response:
    """Search the newest dead letters for those of a contact: a fragment for htmx, or a page."""
    contact_id = contact_links.of_path(request, visitor, token)
    answers = kafka_answers.of(request, kafka_answers.PREVIEW_SECONDS)
    found = await answers.letters_of(visitor.caller.tenant_id, contact_id)
    own = Addresses(contact_links.address(request, visitor, contact_id), bool(reveal))
    template = "_contact_letters.html" if rendering.is_fragment(request) else "contact_letters.html"
    return rendering.page(
        request,
        visitor,
        template,
        mask=_mask(contact_id, reveal),
        contact_href=own.timeline(contact_query.Filters()),
        searched=contact_letters.SCANNED_MAX,
        **kafka_answers.split(found, "letters"),
    )
