"""JSON Schemas (2020-12) of messages, each complete in itself.

They use only keywords that draft 7 has too, because AsyncAPI's own tools read no later draft.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from msgspec import Struct, json, structs

from goalworker.decoding import lenient
from goalworker.decoding.wire import WIRE
from goalworker.domain import criteria, events, messages
from goalworker.domain.criteria import ID_FIELDS, IDS_MAX
from goalworker.domain.criteria_parsing import TIMES_MAX, TIMES_MIN
from goalworker.domain.text import AMOUNT_MAX, MAJOR_UNITS, TEXT_BYTES_MAX, Text
from goalworker.schemas import outgoing

Schema = dict[str, Any]

_TEXT: Final = json.schema(Text)
_TEXT_REF: Final[Schema] = {"$ref": "#/$defs/text"}
_TEXT_DEF: Final = {
    **_TEXT,
    "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
    "description": f"1 to {TEXT_BYTES_MAX} bytes of UTF-8 without control characters",
}
_TIME: Final = json.schema(outgoing.Time)
_NOTHING: Final[Schema] = {"enum": [None, ""]}
_BASE64: Final[Schema] = {"type": "string", "contentEncoding": "base64", "pattern": "^[A-Za-z0-9+/]+={0,2}$"}
_AMOUNT_NUMBER: Final[Schema] = {
    "type": "number",
    "minimum": 0,
    "maximum": int(AMOUNT_MAX),
    "description": f"An amount {MAJOR_UNITS}",
}
_AMOUNT_TEXT: Final[Schema] = {
    "type": "string",
    "pattern": r"^(0{0,49}[0-9]{1,15}(\.[0-9]{1,18})?|0{0,48}10{15}(\.0{1,18})?)$",
    "description": f"A plain decimal from 0 to 10^15, exact, {MAJOR_UNITS}",
}
_INTEGER: Final[Schema] = {
    "type": "integer",
    "description": "Counts as its decimal text; without fraction and exponent",
}
_PRODUCT_IDS: Final[Schema] = {
    "type": "array",
    "items": {"anyOf": [_TEXT_REF, _INTEGER, {"type": "null"}]},
    "description": f"At most {events.PRODUCT_IDS_MAX}; null entries are ignored",
}
_ANYTHING: Final = {
    "starts_at": "Any JSON: a text is kept as it is, anything else is dropped",
    "test": "true: a test event, which is skipped unless GOALWORKER_EVENTS__TEST_EVENTS is `count`",
}
_CURRENCY: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z]{3}$"}
_AMOUNT: Final[Schema] = {"anyOf": [_AMOUNT_TEXT, _AMOUNT_NUMBER]}
_ALL_OR_PART: Final[list[Schema]] = [
    {"properties": {"amount": {"type": "null"}, "currency": _NOTHING}},
    {"properties": {"amount": _AMOUNT, "currency": _CURRENCY}, "required": ["amount", "currency"]},
]
"""A refund of the whole payment, and one of an amount."""


def message_schemas() -> dict[str, Schema]:
    """Return the schema of each incoming and outgoing message by its CloudEvents type."""
    return {
        **{message_type: _incoming(message_type) for message_type in events.DATA_OF_TYPE},
        **{message_type: _outgoing(message_type) for message_type in outgoing.BY_TYPE},
    }


def _incoming(message_type: str) -> Schema:
    properties = {
        "specversion": {"const": "1.0"},
        "id": _TEXT_REF,
        "source": _TEXT_REF,
        "type": {"const": message_type},
        "time": {
            "anyOf": [_TIME, _NOTHING],
            "description": "When it happened; if absent, the record's timestamp counts",
        },
        "tenantid": _TEXT_REF,
        "data": {"anyOf": [{"$ref": "#/$defs/data"}, {"type": "null"}]},
        "data_base64": {"description": "The data as JSON in base64, in place of `data`"},
    }
    required = ["specversion", "id", "source", "type", "tenantid"]
    schema = _message(message_type, properties, required, _data(message_type))
    coded = {"properties": {"data": {"type": "null"}, "data_base64": _BASE64}, "required": ["data_base64"]}
    return schema | {"anyOf": [{"required": ["data"], "properties": {"data": {"type": "object"}}}, coded]}


def _outgoing(message_type: str) -> Schema:
    _, struct, subject = outgoing.BY_TYPE[message_type]
    data = _of_struct(struct)
    if struct is outgoing.Achieved:
        data["properties"]["trigger_event"] = _trigger_event()
    if struct is outgoing.Configured:
        data["oneOf"] = [
            {"properties": {"goal_type": {"const": goal_type}, "criteria": _criteria(goal_type)}}
            for goal_type in events.GOAL_TYPES
        ]
    properties = {
        "specversion": {"const": "1.0"},
        "id": json.schema(UUID),
        "source": {"const": messages.SOURCE},
        "type": {"const": message_type},
        "subject": data["properties"][subject],
        "time": _TIME,
        "tenantid": _TEXT_REF,
        "datacontenttype": {"const": "application/json"},
        "data": {"$ref": "#/$defs/data"},
    }
    return _message(message_type, properties, list(properties), data)


def _message(message_type: str, properties: Schema, required: list[str], data: Schema) -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:goalworker:schema:{message_type}",
        "title": message_type,
        "type": "object",
        "properties": properties,
        "required": required,
        "$defs": {"data": data, "text": _TEXT_DEF},
    }


def _data(message_type: str) -> Schema:
    """Return the schema of the `data` of an incoming message, with every form that a sender may use."""
    data = _contract_fields(message_type)
    for name, field in data["properties"].items():
        if name in _ANYTHING:
            data["properties"][name] = {"description": _ANYTHING[name]}
        elif name == "product_ids":
            field["anyOf"][0] = _PRODUCT_IDS
        elif lenient.is_id(name):
            data["properties"][name] = {"anyOf": [_TEXT_REF, _INTEGER, *([_NOTHING] if "anyOf" in field else [])]}
        elif field.get("anyOf") == [_TEXT_REF, {"type": "null"}]:
            field["anyOf"][1] = _NOTHING
    if events.DATA_OF_TYPE[message_type] is events.TagAdded:
        data["anyOf"] = [
            {"required": [name], "properties": {name: {"anyOf": some}}}
            for name, some in (("tag_id", [_TEXT_REF, _INTEGER]), ("tag_name", [_TEXT_REF]))
        ]
    if events.DATA_OF_TYPE[message_type] is events.PaymentRefunded:
        data["properties"] |= {"amount": {}, "currency": {}}
        data["anyOf"] = _ALL_OR_PART
    return data


def _contract_fields(message_type: str) -> Schema:
    """Return the schema of an event's data as its struct holds it, with the rules that the struct cannot state."""
    struct = events.DATA_OF_TYPE[message_type]
    data = _of_struct(struct)
    data["properties"] = {field.name: data["properties"][field.name] for field in structs.fields(WIRE[message_type])}
    if struct is events.PaymentCompleted:
        data["properties"]["amount"] = _AMOUNT
        data["properties"]["currency"] = _CURRENCY
    if struct is events.TagAdded:
        data["anyOf"] = [{"required": [name]} for name in ("tag_id", "tag_name")]
    if "test" in data["properties"]:
        data["properties"]["test"] = {"const": True}
    return data


def _trigger_event() -> Schema:
    properties = {
        "id": _TEXT_REF,
        "source": _TEXT_REF,
        "type": {"enum": list(events.GOAL_EVENT_TYPES)},
        "time": _TIME,
        "data": {"type": "object"},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "oneOf": [
            {"properties": {"type": {"const": message_type}, "data": _evidence(message_type)}}
            for message_type in events.GOAL_EVENT_TYPES
        ],
    }


def _evidence(message_type: str) -> Schema:
    """Return the schema of an event's data as an achievement quotes it: without nulls, with the amount as a string."""
    data = _contract_fields(message_type)
    had = {name: field["anyOf"][0] if "anyOf" in field else field for name, field in data["properties"].items()}
    return {**data, "properties": had, "additionalProperties": False}


def _criteria(goal_type: str) -> Schema:
    row = events.GOAL_TYPE_TABLE[goal_type]
    settings = {name: _setting(row, name) for name in criteria.settings_of(row)}
    own = {name: _IDS if name in ID_FIELDS else _CRITERION.get(name, _TEXT_REF) for name in row.criteria}
    some = {"type": "object", "properties": own | settings, "additionalProperties": False, "minProperties": 1}
    if row.are_criteria_required:
        return {**some, "required": list(own)}
    if row.any_flag is None:
        return some
    anything = {
        "properties": {row.any_flag: {"const": True}, **settings},
        "required": [row.any_flag],
        "additionalProperties": False,
    }
    return {"anyOf": [some, {"type": "object", **anything}]}


def _setting(row: events.GoalType, name: str) -> Schema:
    return {"enum": list(criteria.correlations_of(row))} if name == "correlate_by" else _SETTINGS[name]


_IDS: Final[Schema] = {
    "anyOf": [
        _TEXT_REF,
        {"type": "array", "items": _TEXT_REF, "minItems": 2, "maxItems": IDS_MAX, "uniqueItems": True},
    ],
    "description": "One id, or several of which any will do, sorted by code point",
}
_DURATION: Final[Schema] = {
    "type": "string",
    "pattern": "^P([0-9]+D)?(T([0-9]+H)?([0-9]+M)?([0-9]+S)?)?$",
    "minLength": len("P1D"),
    "description": "An ISO 8601 duration of days, hours, minutes and seconds, up to P365D",
}
_SETTINGS: Final[Mapping[str, Schema]] = {
    "times": {"type": "integer", "minimum": TIMES_MIN, "maximum": TIMES_MAX},
    "total_amount": _AMOUNT_TEXT,
    "within": _DURATION,
    "deadline": _DURATION,
    "reversals": {"const": criteria.KEEP},
}
_CRITERION: Final = {"min_amount": _AMOUNT_TEXT, "currency": {"type": "string", "pattern": "^[A-Z]{3}$"}}


def _of_struct(struct: type[Struct]) -> Schema:
    (schema,), found = json.schema_components([struct])
    complete: Schema = _complete(schema, found)
    return complete


def _complete(node: Any, found: Mapping[str, Schema]) -> Any:
    """Put structs in the place of references to them, name texts, and drop titles and defaults, which are all null."""
    if node == _TEXT:
        return _TEXT_REF
    if isinstance(node, dict):
        if "$ref" in node:
            return _complete(found[node["$ref"].rpartition("/")[2]], found)
        return {name: _complete(value, found) for name, value in node.items() if name not in ("title", "default")}
    return [_complete(value, found) for value in node] if isinstance(node, list) else node
