"""Enrollments: what is known of one, and the intake for those that began before anybody told us."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter
from msgspec import structs
from starlette.responses import Response

from goalworker.api import auth, openapi, parameters, problems, request_bodies, request_models
from goalworker.domain import facts
from goalworker.domain.faults import Fault
from goalworker.domain.text import is_valid_text, parse_time
from goalworker.stores import enrollments

router = APIRouter(tags=[openapi.ENROLLMENTS])

_FUTURE_RULE: Final = "by more than the setting GOALWORKER_EVENTS__MAX_FUTURE_SECONDS allows"
_FIELDS: Final = ("enrollment_id", "contact_id", "enrolled_at", "ended_at")


@router.get(
    "/api/v1/enrollments/{enrollment_id}",
    summary="Get what is known of an enrollment",
    **openapi.answers(200, "What is known", "Enrollment"),
)
async def get_enrollment(
    caller: auth.Reader, here: parameters.InContext, enrollment_id: parameters.EnrollmentId
) -> Response:
    """Say whether an enrollment's workflow has done its work; an engine asks this before it sends.

    404: nothing is known of it, go on. The answer is as fresh as the worker's lag.
    """
    found = await enrollments.find(here.pool, caller.tenant_id, enrollment_id)
    if found is None:
        raise problems.ProblemError(problems.NOT_FOUND, "Nothing is known of this enrollment")
    return parameters.json_answer(found)


@router.post(
    f"{parameters.WORKFLOW}/enrollments",
    summary="Take in enrollments that began before",
    **openapi.answers(
        202,
        "They are taken in",
        "Accepted",
        takes="Runs",
        others=[problems.CONFLICTING_ENROLLMENT, problems.TRACKING_OFF],
    ),
)
async def take_in_enrollments(
    caller: auth.Enroller,
    here: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    given: request_bodies.JsonBody,
) -> Response:
    """Take in existing runs: each becomes the lifecycle messages that an engine would have sent."""
    if not here.settings.enrollments.tracking:
        detail = "Every contact counts as enrolled here (GOALWORKER_ENROLLMENTS__TRACKING=false); there is no intake"
        raise problems.ProblemError(problems.TRACKING_OFF, detail)
    latest = datetime.now(UTC) + timedelta(seconds=here.settings.events.max_future_seconds)
    runs = _runs(given, caller.tenant_id, workflow_id, latest)
    try:
        await enrollments.take_in(here.pool, caller.tenant_id, workflow_id, runs)
    except enrollments.ConflictingEnrollmentError as error:
        raise _conflict(runs, error) from None
    return parameters.json_answer({"accepted": len(runs)}, 202)


def _conflict(runs: Sequence[facts.Enrollment], error: enrollments.ConflictingEnrollmentError) -> problems.ProblemError:
    detail = "`enrollment_id` is known with another workflow or contact; nothing of this request was recorded"
    faults = [
        Fault(f"/enrollments/{number}/enrollment_id", detail)
        for number, run in enumerate(runs)
        if run.enrollment_id in error.enrollment_ids
    ]
    return problems.invalid(faults, problems.CONFLICTING_ENROLLMENT)


def _runs(given: Mapping[str, Any], tenant_id: str, workflow_id: str, latest: datetime) -> list[facts.Enrollment]:
    """Return the runs of a body; a problem with every fault of every one."""
    faults = request_bodies.reject_unknown_fields(given, ("enrollments",))
    listed = given.get("enrollments")
    if not isinstance(listed, list) or len(listed) > request_models.ENROLLMENTS_MAX:
        rule = f"`enrollments` must be a list of at most {request_models.ENROLLMENTS_MAX} enrollments"
        raise problems.invalid([*faults, Fault("/enrollments", rule)])
    runs = []
    for number, each in enumerate(listed):
        wrong = _faults(each, f"/enrollments/{number}", latest)
        faults += wrong
        if not wrong:
            runs.append(_run(each, tenant_id, workflow_id))
    if faults:
        raise problems.invalid(faults)
    return runs


def _run(given: Mapping[str, Any], tenant_id: str, workflow_id: str) -> facts.Enrollment:
    times = {name: given.get(name) and parse_time(given[name]) for name in ("enrolled_at", "ended_at")}
    run = facts.Enrollment(tenant_id, given["enrollment_id"], workflow_id, given["contact_id"])
    return structs.replace(run, **times)


def _faults(given: Any, at: str, latest: datetime) -> list[Fault]:
    if not isinstance(given, Mapping):
        return [Fault(at, "An enrollment must be an object")]
    faults = request_bodies.reject_unknown_fields(given, _FIELDS, at)
    for name in ("enrollment_id", "contact_id"):
        text = given.get(name)
        if not isinstance(text, str) or not is_valid_text(text):
            faults.append(Fault(f"{at}/{name}", f"`{name}` {parameters.TEXT_RULE}"))
    times = {name: _moment(given.get(name), f"{at}/{name}", latest, faults) for name in ("enrolled_at", "ended_at")}
    began, ended = times["enrolled_at"], times["ended_at"]
    if "enrolled_at" not in given or given["enrolled_at"] is None:
        faults.append(Fault(f"{at}/enrolled_at", "`enrolled_at` is missing: when did the run begin?"))
    if began is not None and ended is not None and ended < began:
        faults.append(Fault(f"{at}/ended_at", "`ended_at` must not be before `enrolled_at`"))
    return faults


def _moment(given: Any, pointer: str, latest: datetime, faults: list[Fault]) -> datetime | None:
    """Return a time of an enrollment, None where it is absent or at fault."""
    if given is None:
        return None
    name = pointer.rpartition("/")[2]
    moment = parse_time(given) if isinstance(given, str) else None
    if moment is None:
        faults.append(Fault(pointer, f"`{name}` {parameters.TIME_RULE}"))
    elif moment > latest:
        faults.append(Fault(pointer, f"`{name}` is in the future, {_FUTURE_RULE}"))
    return moment
