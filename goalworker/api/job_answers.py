"""Form of answers about jobs: plans and backfills differ only in the name of their id."""

from uuid import UUID

from starlette.responses import Response

from goalworker.api import parameters
from goalworker.stores import jobs


def accepted(context: parameters.Context, name: str, job_id: UUID, path: str) -> Response:
    """Return the answer to a job that is queued."""
    location = f"{context.settings.api.root_path}{path}/{job_id}"
    return parameters.json_answer({name: job_id, "state": jobs.QUEUED}, 202, {"Location": location})


def status(name: str, found: jobs.Status) -> Response:
    """Return the state of a job; only a failed one has an error."""
    error = {} if found.error is None else {"error": found.error}
    return parameters.json_answer(
        {name: found.job_id, "state": found.state, "progress": found.progress, "result": found.result, **error}
    )
