"""The OpenAPI document: bodies, answers and problems of each operation."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi import utils
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from goalworker.api import (
    explanation_models,
    goal_models,
    insight_models,
    problems,
    report_models,
    request_models,
    response_models,
)

GOALS: Final = "Goals"
REPORTS: Final = "Reports"
ENROLLMENTS: Final = "Enrollments"
INSIGHT: Final = "Insight"
TAGS: Final = [
    {
        "name": GOALS,
        "description": "Goals of workflows, settings that say when a workflow is done, and the audit of changes.",
    },
    {"name": REPORTS, "description": "Conversion of goals, and achievements with their events."},
    {
        "name": ENROLLMENTS,
        "description": "Enrollments of contacts in workflows: the state of one, and the import of existing ones.",
    },
    {"name": INSIGHT, "description": "Questions about the past, answered by `goalworker insight` from kept events."},
]
# Generated clients choose their types of numbers by the format.
_FORMATS: Final = {"integer": "int64", "number": "double"}

_REF: Final = "#/components/schemas/"
_MODELS: Final[dict[str, Any]] = {
    "GoalDraft": goal_models.GoalDraft,
    "GoalChanges": request_models.GoalChanges,
    "GoalsToValidate": request_models.GoalsToValidate,
    "Runs": request_models.Runs,
    "PlanRequest": insight_models.PlanRequest,
    "PlanAccepted": insight_models.PlanAccepted,
    "Plan": insight_models.Plan,
    "BackfillRequest": insight_models.BackfillRequest,
    "BackfillAccepted": insight_models.BackfillAccepted,
    "Backfill": insight_models.Backfill,
    "Goal": goal_models.Goal,
    "Goals": response_models.Goals,
    "Verdict": response_models.Verdict,
    "GoalSettings": response_models.GoalSettings,
    "Audit": response_models.Audit,
    "AuditPage": response_models.AuditPage,
    "Stats": response_models.Stats,
    "Series": list[report_models.Cohort],
    "TimesToGoal": report_models.TimesToGoal,
    "Workflows": report_models.Workflows,
    "Achievements": response_models.Achievements,
    "Enrollment": response_models.Enrollment,
    "Explanations": explanation_models.Explanations,
    "SeenValues": list[response_models.SeenValue],
    "Accepted": response_models.Accepted,
    "Problem": response_models.Problem,
}
# Problems of every operation.
_ALWAYS: Final = (
    problems.UNAUTHENTICATED,
    problems.FORBIDDEN,
    problems.NOT_FOUND,
    problems.FOREIGN_TENANT,
    problems.BUG,
    problems.UNAVAILABLE,
)
_OF_BODIES: Final = (problems.INVALID, problems.TOO_SLOW, problems.TOO_LARGE, problems.NOT_JSON)


def _header(description: str, type_: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": type_}}


ETAG: Final = {"ETag": _header('The goal\'s version, quoted: `"3"`')}
LOCATION: Final = {"Location": _header("Address of the goal")}
JOB_LOCATION: Final = {"Location": _header("Address of the job, with its state and result")}
_PROBLEM_HEADERS: Final = {
    401: {"WWW-Authenticate": _header("Required credentials, or the fault in those that were sent")},
    403: {"WWW-Authenticate": _header("Required scope")},
    503: {"Retry-After": _header("Seconds until the next attempt", "integer")},
}


def answers(  # noqa: PLR0913 - the parts of an operation
    status: int,
    description: str,
    model: str | None = None,
    *,
    takes: str | None = None,
    optional: bool = False,
    others: Iterable[problems.Kind] = (),
    headers: dict[str, Any] | None = None,
    links: dict[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the answer, the problems and the body of an operation, as arguments of a route's decorator.

    texts: descriptions of answers in other forms than JSON, by media type.
    """
    success: dict[str, Any] = {"description": description, "headers": headers or {}, "links": links or {}}
    if model is not None:
        success["content"] = {"application/json": {"schema": {"$ref": _REF + model}}}
    for media_type, what in (texts or {}).items():
        success.setdefault("content", {})[media_type] = {"schema": {"type": "string", "description": what}}
    kinds = [*_ALWAYS, *(_OF_BODIES if takes else ()), *others]
    responses: dict[int | str, dict[str, Any]] = {status: success}
    for other in sorted({kind.status for kind in kinds}):
        responses[other] = _problem(other, [kind for kind in kinds if kind.status == other])
    route: dict[str, Any] = {"status_code": status, "responses": responses}
    if takes is not None:
        content = {"application/json": {"schema": {"$ref": _REF + takes}}}
        route["openapi_extra"] = {"requestBody": {"required": not optional, "content": content}}
    return route


def _problem(status: int, kinds: list[problems.Kind]) -> dict[str, Any]:
    schema = {"$ref": _REF + "Problem"}
    examples = {kind.slug: {"value": _example(kind)} for kind in kinds}
    return {
        "description": "; or: ".join(kind.title for kind in kinds),
        "headers": _PROBLEM_HEADERS.get(status, {}),
        "content": {problems.MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }


def _example(kind: problems.Kind) -> dict[str, Any]:
    return {"type": problems.type_of(kind), "title": kind.title, "status": kind.status, "detail": kind.title}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application."""
    found = utils.get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=TAGS
    )
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas |= _schemas()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path in found["paths"].values():
        for operation in path.values():
            _finish(operation)
    _simplify(found)
    return found


def _finish(operation: dict[str, Any]) -> None:
    # FastAPI's default for invalid parameters; ours is 400 or 404.
    operation["responses"].pop("422", None)
    ((scope,),) = operation["security"][0].values()
    operation["description"] += f"\n\nRequired scope: `{scope}`."
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_null(parameter["schema"])


def _simplify(node: Any) -> None:
    """Give numbers a format, and drop defaults of null, which make some generators require the field."""
    if isinstance(node, dict):
        kind = node.get("type")
        if isinstance(kind, str) and kind in _FORMATS:
            node.setdefault("format", _FORMATS[kind])
        if node.get("default", ...) is None:
            del node["default"]
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _simplify(child)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter without null: an optional parameter is left out."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return {**kinds[0], **{name: schema[name] for name in schema if name != "anyOf"}} if len(kinds) == 1 else schema


def _schemas() -> dict[str, Any]:
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (name, "validation", TypeAdapter(model)) for name, model in _MODELS.items()
    ]
    refs, defined = TypeAdapter.json_schemas(inputs, ref_template=_REF + "{model}")
    schemas: dict[str, Any] = dict(defined.get("$defs", {}))
    for name in _MODELS:
        schema = refs[name, "validation"]
        if schema != {"$ref": _REF + name}:
            schemas[name] = schema
    return schemas
