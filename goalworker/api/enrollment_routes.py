"""Routes of enrollments: the state of one, and the import of those that began earlier."""

from collections.abc import Sequence
from datetime import timedelta

from fastapi import APIRouter
from starlette.responses import Response

from goalworker.api import auth, openapi, parameters, problems, request_bodies, request_models, validation
from goalworker.domain import facts
from goalworker.domain.faults import Fault
from goalworker.postgres import connections
from goalworker.stores import enrollments

router = APIRouter(tags=[openapi.ENROLLMENTS])


@router.get(
    "/api/v1/enrollments/{enrollment_id}",
    summary="Get an enrollment",
    **openapi.answers(200, "The enrollment", "Enrollment"),
)
async def get_enrollment(
    caller: auth.Reader, context: parameters.InContext, enrollment_id: parameters.EnrollmentId
) -> Response:
    """Get an enrollment with its status, achievements and exit; an engine checks it before it sends.

    404 means that nothing is known of the enrollment, so go on. `fresh_as_of`, which the 404 has too, says how much is
    known: every record that reached Kafka before this time has been judged.
    """
    found = await enrollments.find(context.pool, caller.tenant_id, enrollment_id)
    if isinstance(found, enrollments.UnknownEnrollment):
        raise problems.ProblemError(problems.NOT_FOUND, "Unknown enrollment", fresh_as_of=found.fresh_as_of)
    return parameters.json_answer(found)


@router.post(
    f"{parameters.WORKFLOW}/enrollments",
    summary="Import existing enrollments",
    operation_id="take_in_enrollments",
    **openapi.answers(
        202,
        "They are accepted",
        "Accepted",
        takes="Runs",
        others=[problems.CONFLICTING_ENROLLMENT, problems.TRACKING_OFF],
    ),
)
async def import_enrollments(
    caller: auth.Enroller,
    context: parameters.InContext,
    workflow_id: parameters.WorkflowId,
    body: request_bodies.JsonBody,
) -> Response:
    """Import enrollments that began earlier; each becomes the lifecycle messages of an engine."""
    if not context.settings.enrollments.tracking:
        detail = "Every contact counts as enrolled here (GOALWORKER_ENROLLMENTS__TRACKING=false); imports are off"
        raise problems.ProblemError(problems.TRACKING_OFF, detail)
    latest = await connections.now(context.pool) + timedelta(seconds=context.settings.events.max_future_seconds)
    runs = validation.validate(request_models.Runs, body, latest).enrollments
    imported = [
        facts.Enrollment(
            caller.tenant_id, run.enrollment_id, workflow_id, run.contact_id, run.enrolled_at, run.ended_at
        )
        for run in runs
    ]
    try:
        await enrollments.add(context.pool, caller.tenant_id, workflow_id, imported)
    except enrollments.ConflictingEnrollmentError as error:
        raise _conflict(imported, error) from None
    return parameters.json_answer({"accepted": len(imported)}, 202)


def _conflict(
    imported: Sequence[facts.Enrollment], error: enrollments.ConflictingEnrollmentError
) -> problems.ProblemError:
    detail = "`enrollment_id` belongs to another workflow or contact; nothing of this request was recorded"
    faults = [
        Fault(f"/enrollments/{number}/enrollment_id", detail)
        for number, enrollment in enumerate(imported)
        if enrollment.enrollment_id in error.enrollment_ids
    ]
    return problems.invalid(faults, problems.CONFLICTING_ENROLLMENT)
