"""Field types of bodies and queries, and pydantic's errors as faults in the sentences of the API."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError
from pydantic.config import JsonDict

from goalworker.api import problems
from goalworker.domain import faults
from goalworker.domain.text import (
    DURATION_RULE,
    TEXT_BYTES_MAX,
    TEXT_RULE,
    TIME_RULE,
    is_valid_text,
    parse_positive_duration,
    parse_time,
)


def _text(value: object) -> str:
    if not isinstance(value, str) or not is_valid_text(value):
        raise ValueError(TEXT_RULE)
    return value


def _moment(value: object) -> datetime:
    moment = parse_time(value) if isinstance(value, str) else None
    if moment is None:
        raise ValueError(TIME_RULE)
    return moment


def _seconds(value: object) -> int:
    seconds = parse_positive_duration(value)
    if seconds is None:
        raise ValueError(DURATION_RULE)
    return seconds


_TEXT_SCHEMA: Final[JsonDict] = {
    "minLength": 1,
    "maxLength": TEXT_BYTES_MAX,
    "pattern": r"^[^\x00-\x1f\x7f-\x9f]+$",
}
Text = Annotated[str, Field(json_schema_extra=_TEXT_SCHEMA), BeforeValidator(_text)]
Seconds = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=str)]
"""Seconds, given as an ISO 8601 duration."""
Moment = Annotated[datetime, BeforeValidator(_moment)]
Model = TypeVar("Model", bound=BaseModel)


def closed(example: JsonDict, **schema: JsonValue) -> ConfigDict:
    """Return the configuration of a model that refuses unknown fields, with an example for OpenAPI."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example], **schema})


def validate(model: type[Model], given: Mapping[str, Any], context: object = None) -> Model:
    """Return a decoded body as its model; ProblemError 400 with every fault in it."""
    try:
        return model.model_validate(given, context=context)
    except ValidationError as error:
        raise problems.invalid([_body_fault(model, found) for found in error.errors(include_url=False)]) from None


def query_fault(error: Mapping[str, Any]) -> faults.Fault:
    """Return what FastAPI found wrong with the path, the query or a header."""
    part, name = error["loc"][0], faults.printable(str(error["loc"][-1])[:64])
    pointer = f"?{name}" if part == "query" else f"{part} {name}"
    hint = " (a + is %2B in a URL)" if TIME_RULE in str(error.get("ctx")) else ""
    return faults.Fault(pointer, f"`{name}` {_rule(error)}{hint}")


def _body_fault(model: type[BaseModel], error: Mapping[str, Any]) -> faults.Fault:
    path = error["loc"]
    pointer = "".join(f"/{faults.pointer(str(part))}" for part in path)
    fields = f"; there are {', '.join(_fields(model, path[:-1]))}" if error["type"] == "extra_forbidden" else ""
    return faults.Fault(pointer, f"{_subject(path)} {_rule(error)}{fields}")


def _subject(path: Sequence[str | int]) -> str:
    if not path:
        return "The body"
    name = path[-1]
    return f"Entry {name}" if isinstance(name, int) else f"`{faults.printable(name[:64])}`"


def _fields(model: type[BaseModel], path: Sequence[str | int]) -> Iterable[str]:
    """Return the fields of the model at a path into a body; lists hold models of one kind."""
    for name in path:
        if isinstance(name, str):
            annotation = model.model_fields[name].annotation
            model = next(kind for kind in get_args(annotation) if issubclass(kind, BaseModel))
    return model.model_fields


def _rule(error: Mapping[str, Any]) -> str:
    """Return the rule that a value breaks, with the value unless its shape is wrong."""
    kind = error["type"]
    if kind in _RULES_OF_SHAPE:
        return _RULES_OF_SHAPE[kind].format_map(error.get("ctx", {}))
    rule = error["msg"].removeprefix("Value error, ").replace("Input should", "must").replace("String should", "must")
    return f"{rule}; got {faults.shown(error['input'])}"


_RULES_OF_SHAPE: Final = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "string_unicode": "has a field whose name contains a lone surrogate",
    "model_type": "must be an object",
    "list_type": "must be a list",
    "too_long": "must have at most {max_length} entries",
}
