"""The one form of an error: application/problem+json (RFC 9457, contract section 5)."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import UNSET, Struct, UnsetType, json
from starlette.responses import Response

from goalworker.domain.faults import Fault

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 2
RETRY_AFTER_REFUSED_SECONDS: Final = 60
# As many as a list of enrollments may have: a body of nothing but unknown fields is not answered by a larger one.
FAULTS_MAX: Final = 1_000


class Kind(Struct, frozen=True):
    """What problems have in common: the status, the slug in their type, the title."""

    status: int
    slug: str
    title: str


INVALID: Final = Kind(400, "invalid-request", "The request is not what it should be")
TOO_MANY_GOALS: Final = Kind(400, "too-many-goals", "The workflow has as many goals as it may have")
REFERENCE_MISSING: Final = Kind(400, "reference-not-found", "Something that the goal refers to does not exist")
UNAUTHENTICATED: Final = Kind(401, "unauthenticated", "Who asks is not known")
FORBIDDEN: Final = Kind(403, "missing-scope", "The credentials lack the right to do this")
NOT_FOUND: Final = Kind(404, "not-found", "There is nothing here")
METHOD_NOT_ALLOWED: Final = Kind(405, "method-not-allowed", "This cannot be done here")
TOO_SLOW: Final = Kind(408, "request-timeout", "The request took too long to arrive")
DUPLICATE_GOAL: Final = Kind(409, "duplicate-goal", "The workflow has this goal already")
CONFLICTING_ENROLLMENT: Final = Kind(409, "conflicting-enrollment", "An enrollment id is taken")
TRACKING_OFF: Final = Kind(409, "enrollment-tracking-off", "Enrollments are not tracked here")
STALE: Final = Kind(412, "stale-version", "Somebody else changed the goal meanwhile")
TOO_LARGE: Final = Kind(413, "body-too-large", "The body is too large")
NOT_JSON: Final = Kind(415, "unsupported-media-type", "The body must be JSON")
BUG: Final = Kind(500, "internal-error", "Something went wrong here")
UNAVAILABLE: Final = Kind(503, "unavailable", "Something that is needed is not available")


class ProblemError(Exception):
    """A request ends in a problem: which kind, and a sentence that says what is wrong and what to do.

    dependency: what is not available, by the name that its outage has in the log.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        dependency: str = "",
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.faults = tuple(faults[:FAULTS_MAX])
        self.headers = dict(headers or {})
        self.dependency = dependency


def type_of(kind: Kind) -> str:
    """Return the URN that names a kind of problem."""
    return f"urn:goalworker:problem:{kind.slug}"


def invalid(faults: Sequence[Fault], kind: Kind = INVALID) -> ProblemError:
    """Return the problem that fields are at fault; with one fault its sentence is the detail."""
    more = len(faults) - 1
    return ProblemError(kind, faults[0].detail + (f" (and {more} more, see errors)" if more else ""), faults)


def unavailable(what: str, dependency: str = "") -> ProblemError:
    """Return the problem that something is away which comes back."""
    return _unavailable(f"{what}; nothing was changed, try again in a few seconds", RETRY_AFTER_SECONDS, dependency)


def refused(what: str, dependency: str) -> ProblemError:
    """Return the problem that something refuses us, until somebody changes a right or a login there."""
    detail = f"{what}; nothing was changed, and an operator has to put it right"
    return _unavailable(detail, RETRY_AFTER_REFUSED_SECONDS, dependency)


def _unavailable(detail: str, retry_after_seconds: int, dependency: str) -> ProblemError:
    return ProblemError(UNAVAILABLE, detail, (), {"Retry-After": str(retry_after_seconds)}, dependency)


class _Problem(Struct):
    type: str
    title: str
    status: int
    detail: str
    errors: Sequence[Fault] | UnsetType = UNSET


def answer(problem: ProblemError) -> Response:
    """Return the problem as it is sent."""
    kind = problem.kind
    body = _Problem(type_of(kind), kind.title, kind.status, problem.detail, problem.faults or UNSET)
    return Response(json.encode(body), kind.status, problem.headers, MEDIA_TYPE)
