"""Errors as application/problem+json (RFC 9457, contract section 5)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import UNSET, Struct, UnsetType, json
from starlette.responses import Response

from goalworker.domain.faults import Fault

MEDIA_TYPE: Final = "application/problem+json"
# Seconds of the Retry-After header: outages pass soon, while refused rights wait for an operator.
RETRY_AFTER_SECONDS: Final = 2
RETRY_AFTER_REFUSED_SECONDS: Final = 60
# Faults in an answer, as many as entries in a list of enrollments; further ones are counted only. It keeps the answer
# to a body of unknown fields smaller than that body.
FAULTS_MAX: Final = 1_000


class Kind(Struct, frozen=True):
    """A kind of problem: the status, the slug in the type, the title."""

    status: int
    slug: str
    title: str


INVALID: Final = Kind(400, "invalid-request", "Invalid request")
TOO_MANY_GOALS: Final = Kind(400, "too-many-goals", "Too many goals in the workflow")
REFERENCE_MISSING: Final = Kind(400, "reference-not-found", "The goal refers to something that does not exist")
UNAUTHENTICATED: Final = Kind(401, "unauthenticated", "Authentication required")
FORBIDDEN: Final = Kind(403, "missing-scope", "Missing scope")
NOT_FOUND: Final = Kind(404, "not-found", "Not found")
METHOD_NOT_ALLOWED: Final = Kind(405, "method-not-allowed", "Method not allowed")
TOO_SLOW: Final = Kind(408, "request-timeout", "The request took too long to arrive")
DUPLICATE_GOAL: Final = Kind(409, "duplicate-goal", "The workflow already has this goal")
CONFLICTING_ENROLLMENT: Final = Kind(
    409, "conflicting-enrollment", "An enrollment id belongs to another workflow or contact"
)
JOB_REFUSED: Final = Kind(409, "job-refused", "The job cannot be run now")
TRACKING_OFF: Final = Kind(409, "enrollment-tracking-off", "Enrollments are not tracked here")
FOREIGN_TENANT: Final = Kind(421, "foreign-tenant", "The tenant belongs to another cell")
STALE: Final = Kind(412, "stale-version", "The goal has changed since")
TOO_LARGE: Final = Kind(413, "body-too-large", "The body is too large")
NOT_JSON: Final = Kind(415, "unsupported-media-type", "The body must be JSON")
BUG: Final = Kind(500, "internal-error", "Internal error")
UNAVAILABLE: Final = Kind(503, "unavailable", "Service unavailable")


class ProblemError(Exception):
    """A problem that ends a request; `detail` says what is wrong and what to do.

    dependency: the unavailable dependency, by the name of its outage in the log.
    fresh_as_of: an extension of the problem, left out where it is UNSET.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        dependency: str = "",
        *,
        fresh_as_of: datetime | UnsetType | None = UNSET,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.faults = tuple(faults[:FAULTS_MAX])
        self.headers = dict(headers or {})
        self.dependency = dependency
        self.fresh_as_of = fresh_as_of


def type_of(kind: Kind) -> str:
    """Return the URN that names a kind of problem."""
    return f"urn:goalworker:problem:{kind.slug}"


def invalid(faults: Sequence[Fault], kind: Kind = INVALID) -> ProblemError:
    """Return the problem of invalid fields; the first fault is its detail."""
    more = len(faults) - 1
    return ProblemError(kind, faults[0].detail + (f" (and {more} more, see errors)" if more else ""), faults)


def unavailable(what: str, dependency: str = "") -> ProblemError:
    """Return the problem of an outage that passes."""
    return _unavailable(f"{what}; nothing was changed, try again in a few seconds", RETRY_AFTER_SECONDS, dependency)


def refused(what: str, dependency: str) -> ProblemError:
    """Return the problem of a dependency that refuses us until an operator changes a right or a login."""
    detail = f"{what}; nothing was changed, an operator has to fix it"
    return _unavailable(detail, RETRY_AFTER_REFUSED_SECONDS, dependency)


def _unavailable(detail: str, retry_after_seconds: int, dependency: str) -> ProblemError:
    return ProblemError(UNAVAILABLE, detail, (), {"Retry-After": str(retry_after_seconds)}, dependency)


class _Problem(Struct):
    type: str
    title: str
    status: int
    detail: str
    errors: Sequence[Fault] | UnsetType = UNSET
    fresh_as_of: datetime | UnsetType | None = UNSET


def answer(problem: ProblemError) -> Response:
    """Return a problem as a response."""
    kind = problem.kind
    body = _Problem(
        type_of(kind), kind.title, kind.status, problem.detail, problem.faults or UNSET, problem.fresh_as_of
    )
    return Response(json.encode(body), kind.status, problem.headers, MEDIA_TYPE)
