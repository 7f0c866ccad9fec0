"""AsyncAPI of the topics: their messages, keys and headers, and the operations of goalworker on them."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import goalworker
from goalworker import config, metrics
from goalworker.domain import events, messages
from goalworker.pipeline import dead_letters
from goalworker.schemas import outgoing

Schema = dict[str, Any]

_BINDING: Final = {"bindingVersion": "0.5.0"}
_DEAD_LETTER: Final = "dead_letter"
_PART: Final = "[A-Za-z0-9_.~%-]+"


def asyncapi(topics: config.Topics, configuration: Mapping[str, Mapping[str, str]]) -> Schema:
    """Return the AsyncAPI document; configuration holds the options of topics at the broker, by their setting.

    It refers to the message schemas as `./messages/<type>.json`.
    """
    carried = _carried(topics)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "goalworker",
            "version": goalworker.__version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": messages.CONTENT_TYPE,
        "channels": {
            setting: _channel(topics, setting, carried[setting], configuration.get(setting, {}))
            for setting, _ in topics
        },
        "operations": dict(_operations(topics, carried)),
        "components": {"messages": _messages()},
    }


_DESCRIPTION: Final = """\
CloudEvents 1.0 in JSON. Outgoing messages are delivered at least once, each with a stable id and always the same \
bytes: drop an id that you have seen, and ignore a revision lower than one that you know.

Incoming messages may also be in binary mode: the attributes in the headers `ce_specversion`, `ce_id`, `ce_source`, \
`ce_type`, `ce_time` and `ce_tenantid`, and `data` alone (`#/$defs/data` of the message's schema) as the value. A \
`content-type` of `application/cloudevents...` means structured mode whatever the other headers are. The case of \
headers does not matter, and `ce-` counts as `ce_`. `tenantid` may be left out where \
`GOALWORKER_EVENTS__DEFAULT_TENANT` names a tenant, or `GOALWORKER_EVENTS__TENANT_FROM` names another source. Unknown \
attributes and fields are ignored, and an optional text that is empty counts as absent. A byte order mark before the \
value is skipped, an array of one event is that event, and with `GOALWORKER_EVENTS__PLAIN_JSON` a value that is not a \
CloudEvent is accepted as `data`. An event of a type that its channel does not list is skipped, so a topic may carry \
others' events too; with `GOALWORKER_EVENTS__FOREIGN_TYPES=dead_letter` it becomes a dead letter."""


def _carried(topics: config.Topics) -> dict[str, list[str]]:
    """Return the messages of each topic, by its setting."""
    event_types = topics.event_types
    carried = {setting: sorted(event_types[name]) for name, setting in topics.inputs.items()}
    for message_type, message in outgoing.BY_TYPE.items():
        carried.setdefault(message.topic, []).append(message_type)
    return {**carried, "dead_letters": [_DEAD_LETTER], "redrive": [_DEAD_LETTER]}


def _channel(topics: config.Topics, setting: str, carried: Collection[str], configuration: Mapping[str, str]) -> Schema:
    configured = {key: _configured(key, value) for key, value in configuration.items()}
    return {
        "address": getattr(topics, setting),
        "description": type(topics).model_fields[setting].description,
        "messages": {message_type: {"$ref": f"#/components/messages/{message_type}"} for message_type in carried},
        "bindings": {"kafka": {**({"topicConfiguration": configured} if configured else {}), **_BINDING}},
    }


def _configured(key: str, value: str) -> object:
    if key == "cleanup.policy":
        return value.split(",")
    return int(value) if key.endswith((".ms", ".bytes")) else value


def _operations(topics: config.Topics, carried: Mapping[str, Collection[str]]) -> Iterable[tuple[str, Schema]]:
    intake = (events.ENROLLMENT_STARTED, events.ENROLLMENT_ENDED)
    for setting in topics.inputs.values():
        yield _operation("receive", setting, carried[setting], "`goalworker run` judges them")
    for setting in dict.fromkeys(message.topic for message in outgoing.BY_TYPE.values()):
        yield _operation("send", setting, carried[setting], "`goalworker run` publishes them")
    yield _operation("send", messages.WORKFLOW_LIFECYCLE, intake, "The API takes in enrollments that exist already")
    yield _operation(
        "send", "dead_letters", carried["dead_letters"], "`goalworker run` puts records aside that it cannot use"
    )
    yield _operation("receive", "dead_letters", carried["dead_letters"], "`goalworker dlq` lists them")
    yield _operation("send", "redrive", carried["redrive"], "`goalworker dlq redrive` sends them again")
    yield _operation("receive", "redrive", carried["redrive"], "`goalworker run` judges them once more")


def _operation(action: str, setting: str, carried: Collection[str], summary: str) -> tuple[str, Schema]:
    channel = f"#/channels/{setting}"
    return f"{action}_{setting}", {
        "action": action,
        "channel": {"$ref": channel},
        "summary": summary,
        "messages": [{"$ref": f"{channel}/messages/{message_type}"} for message_type in carried],
    }


def _messages() -> Schema:
    return {
        **{message_type: _message(message_type) for message_type in (*events.DATA_OF_TYPE, *outgoing.BY_TYPE)},
        _DEAD_LETTER: _dead_letter(),
    }


def _message(message_type: str) -> Schema:
    headers, key = (
        (_headers_out(message_type), _key_out(message_type))
        if message_type in outgoing.BY_TYPE
        else (_HEADERS_IN, _key_in(message_type))
    )
    return {
        "name": message_type,
        "title": message_type,
        "contentType": messages.CONTENT_TYPE,
        "headers": headers,
        "payload": {"$ref": f"./messages/{message_type}.json"},
        "bindings": {"kafka": {"key": key, **_BINDING}},
    }


_TRACE: Final[Schema] = {name: {"type": "string"} for name in ("traceparent", "tracestate")}
_HEADERS_IN: Final[Schema] = {
    "type": "object",
    "properties": {
        "content-type": {"type": "string"},
        **{f"ce_{name}": {"type": "string"} for name in ("specversion", "id", "source", "type", "time", "tenantid")},
        **_TRACE,
        **{f"ce_{name}": schema for name, schema in _TRACE.items()},
    },
    "description": "All are optional: `ce_...` is binary mode, and messages that the event causes carry its trace",
}


def _headers_out(message_type: str) -> Schema:
    carries_trace = outgoing.BY_TYPE[message_type].data in (outgoing.Achieved, outgoing.Exit)
    properties = {"content-type": {"const": messages.CONTENT_TYPE}, **(_TRACE if carries_trace else {})}
    return {"type": "object", "properties": properties, "required": ["content-type"]}


def _key_in(message_type: str) -> Schema:
    of = "workflow" if events.DATA_OF_TYPE[message_type] is events.WorkflowChanged else "contact"
    advice = f"Best `tenant:{of}`, each part percent-encoded; results never depend on it"
    return {"type": ["string", "null"], "description": advice}


def _key_out(message_type: str) -> Schema:
    of = "goal_id" if outgoing.BY_TYPE[message_type].data is outgoing.Configured else "contact"
    return {
        "type": "string",
        "pattern": f"^{_PART}:{_PART}$",
        "description": f"`tenant:{of}`, each part percent-encoded",
    }


def _dead_letter() -> Schema:
    return {
        "name": _DEAD_LETTER,
        "title": _DEAD_LETTER,
        "summary": "A record that cannot be used, byte for byte, with headers that name its position and its fault",
        "contentType": "application/octet-stream",
        "headers": {"type": "object", "properties": _DEAD_LETTER_HEADERS, "required": list(_DEAD_LETTER_HEADERS)},
        "payload": {"description": "The original value"},
        "bindings": {"kafka": {"key": {"description": "The original key"}, **_BINDING}},
    }


_COUNT: Final[Schema] = {"type": "string", "pattern": "^[0-9]+$"}
_DEAD_LETTER_HEADERS: Final[Schema] = {
    dead_letters.ORIGINAL_TOPIC: {"type": "string"},
    dead_letters.ORIGINAL_PARTITION: _COUNT,
    dead_letters.ORIGINAL_OFFSET: _COUNT,
    dead_letters.ORIGINAL_TIMESTAMP: {"type": "string", "pattern": "^-?[0-9]+$", "description": "Epoch milliseconds"},
    dead_letters.ORIGINAL_GROUP: {"type": "string"},
    dead_letters.ERROR_REASON: {"enum": list(metrics.REASONS)},
    dead_letters.ERROR_MESSAGE: {"type": "string", "description": "Never quotes the record"},
    dead_letters.REDRIVE_COUNT: {**_COUNT, "description": "Number of times that it was sent again"},
}
