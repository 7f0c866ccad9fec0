"""The OpenAPI document: what each operation takes and answers, problems included."""

from collections.abc import Iterable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi import utils
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from goalworker.api import problems, shown, taken

_REF: Final = "#/components/schemas/"
_MODELS: Final[dict[str, Any]] = {
    "GoalDraft": taken.GoalDraft,
    "GoalChanges": taken.GoalChanges,
    "GoalsToValidate": taken.GoalsToValidate,
    "Runs": taken.Runs,
    "Goal": shown.Goal,
    "Goals": shown.Goals,
    "Verdict": shown.Verdict,
    "GoalSettings": shown.GoalSettings,
    "Audit": shown.Audit,
    "Stats": shown.Stats,
    "Achievements": shown.Achievements,
    "Enrollment": shown.Enrollment,
    "Accepted": shown.Accepted,
    "Problem": shown.Problem,
}
# Whatever is asked, these may be the answer.
_ALWAYS: Final = (problems.UNAUTHENTICATED, problems.FORBIDDEN, problems.NOT_FOUND, problems.BUG, problems.UNAVAILABLE)
_OF_BODIES: Final = (problems.INVALID, problems.TOO_SLOW, problems.TOO_LARGE, problems.NOT_JSON)


def _header(description: str, type_: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": type_}}


ETAG: Final = {"ETag": _header('The goal\'s version, quoted: `"3"`')}
LOCATION: Final = {"Location": _header("Where the goal is")}
_PROBLEM_HEADERS: Final = {
    401: {"WWW-Authenticate": _header("Which credentials are wanted, or what is wrong with those that were sent")},
    403: {"WWW-Authenticate": _header("Which scope is wanted")},
    503: {"Retry-After": _header("Seconds after which to try again", "integer")},
}


def answers(
    status: int,
    description: str,
    model: str | None = None,
    *,
    takes: str | None = None,
    optional: bool = False,
    others: Iterable[problems.Kind] = (),
    headers: dict[str, Any] | None = None,
    links: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return, for a route's decorator, what it answers, with which problems, and which body it takes."""
    fine: dict[str, Any] = {"description": description, "headers": headers or {}, "links": links or {}}
    if model is not None:
        fine["content"] = {"application/json": {"schema": {"$ref": _REF + model}}}
    kinds = [*_ALWAYS, *(_OF_BODIES if takes else ()), *others]
    responses: dict[int | str, dict[str, Any]] = {status: fine}
    for other in sorted({kind.status for kind in kinds}):
        responses[other] = _problem(other, [kind.title for kind in kinds if kind.status == other])
    route: dict[str, Any] = {"status_code": status, "responses": responses}
    if takes is not None:
        content = {"application/json": {"schema": {"$ref": _REF + takes}}}
        route["openapi_extra"] = {"requestBody": {"required": not optional, "content": content}}
    return route


def _problem(status: int, titles: list[str]) -> dict[str, Any]:
    return {
        "description": "; or: ".join(titles),
        "headers": _PROBLEM_HEADERS.get(status, {}),
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": _REF + "Problem"}}},
    }


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application."""
    found = utils.get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas |= _schemas()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path in found["paths"].values():
        for operation in path.values():
            # FastAPI's own answer to what it cannot read; ours is 400 or 404.
            operation["responses"].pop("422", None)
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
    return found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter, which is left out rather than null."""
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
