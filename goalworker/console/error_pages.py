"""Problems of the console as pages, those of the API as before."""

from urllib import parse

from fastapi import FastAPI, Request
from starlette.responses import RedirectResponse, Response

from goalworker import api
from goalworker.api import problems
from goalworker.console import addresses, rendering, visitors


def install(app: FastAPI) -> None:
    """Have problems of the console's addresses answered with pages, and strangers sent to the login."""
    app.state.answer_problem = answer
    app.add_exception_handler(visitors.LoginRequiredError, _to_login)


def answer(request: Request, problem: problems.ProblemError) -> Response:
    """Return a problem as a page, or as a fragment where a script asked."""
    if not addresses.is_of_console(request):
        return api.answer_problem(request, problem)
    visitor: visitors.Visitor | None = getattr(request.state, "visitor", None)
    name = "_problem.html" if rendering.is_fragment(request) else "problem.html"
    kind = problem.kind
    return rendering.page(
        request,
        visitor,
        name,
        kind.status,
        headers=problem.headers,
        title=kind.title,
        detail=problem.detail,
        faults=problem.faults,
    )


async def _to_login(request: Request, _error: Exception) -> Response:
    goes_on = parse.urlencode({"next": visitors.address_to_return_to(request)})
    login = f"{addresses.url(request, addresses.LOGIN)}?{goes_on}"
    if "hx-request" in request.headers:  # the whole page goes there
        return Response(None, 401, {**rendering.HEADERS, "HX-Redirect": login})
    return RedirectResponse(login, 303, rendering.HEADERS)
