"""Nasty records with the newer fields of `data`, each with what must come of it; a schema can judge each."""

from typing import Final

from tests.kit.hostile import DATA, Record, data, raw

GOAL_KINDS: Final = tuple(kind for kind in DATA if not kind.startswith("workflow."))
BOOKED, STARTED, ENDED = "appointment.booked", "workflow.enrollment.started", "workflow.enrollment.ended"
DEEP: Final = b"[" * 200 + b"]" * 200


def started_by(name: str, outcome: str, token: bytes) -> Record:
    """A started message whose founding event is written so."""
    return raw(f"started_by: {name}", outcome, b'{"source": "/crm", "id": "1"}', token, STARTED)


CORRELATION: Final = tuple(
    record
    for kind in (*GOAL_KINDS, STARTED)
    for record in (
        data(f"{kind}: correlation_id null", "event", kind, correlation_id=None),
        data(f"{kind}: correlation_id empty", "event", kind, correlation_id=""),
        data(f"{kind}: correlation_id of 127 letters of two bytes", "event", kind, correlation_id="é" * 127),
        data(f"{kind}: correlation_id a list", "invalid_data", kind, correlation_id=["o-1"]),
        data(f"{kind}: correlation_id an object", "invalid_data", kind, correlation_id={}),
        data(f"{kind}: correlation_id true", "invalid_data", kind, correlation_id=True),
        data(f"{kind}: correlation_id with NUL", "invalid_data", kind, correlation_id="o\x00"),
        data(f"{kind}: correlation_id of 256 bytes", "invalid_data", kind, correlation_id="o" * 256),
    )
)

REPLACES: Final = (
    data("replaces_appointment_id null", "event", BOOKED, replaces_appointment_id=None),
    data("replaces_appointment_id empty", "event", BOOKED, replaces_appointment_id=""),
    data("an appointment that replaces itself", "event", BOOKED, replaces_appointment_id="a-1"),
    data("replaces_appointment_id a list", "invalid_data", BOOKED, replaces_appointment_id=["a-0"]),
    data("replaces_appointment_id false", "invalid_data", BOOKED, replaces_appointment_id=False),
    data("replaces_appointment_id with a line feed", "invalid_data", BOOKED, replaces_appointment_id="a\n0"),
    data("replaces_appointment_id of a form", "event", replaces_appointment_id=[]),
)

STARTED_BY: Final = (
    started_by("null", "event", b"null"),
    started_by("more in it", "event", b'{"source": "/crm", "type": null, "id": "1", "data": ' + DEEP + b"}"),
    started_by("fields twice, right at last", "event", b'{"source": 1, "id": "", "source": "/crm", "id": "1"}'),
    started_by("itself twice, right at last", "event", b'7, "started_by": {"id": "1", "source": "/crm"}'),
    started_by("escaped", "event", rb'{"\u0073ource": "\u002fcrm", "id": "\u0031"}'),
    started_by("letters of two bytes", "event", '{"source": "/büro", "id": "ü"}'.encode()),
    started_by("fields twice, wrong at last", "invalid_data", b'{"source": "/crm", "id": "1", "id": null}'),
    started_by("empty", "invalid_data", b"{}"),
    started_by("an empty text", "invalid_data", b'""'),
    started_by("a text", "invalid_data", b'"1"'),
    started_by("a list", "invalid_data", b'["/crm", "1"]'),
    started_by("false", "invalid_data", b"false"),
    started_by("a number", "invalid_data", b"1e400"),
    started_by("no source", "invalid_data", b'{"id": "1"}'),
    started_by("no id", "invalid_data", b'{"source": "/crm"}'),
    started_by("a null id", "invalid_data", b'{"source": "/crm", "id": null}'),
    started_by("an empty source", "invalid_data", b'{"source": "", "id": "1"}'),
    started_by("an integer, which only ids in data may be", "invalid_data", b'{"source": "/crm", "id": 1}'),
    started_by("NUL in the id", "invalid_data", rb'{"source": "/crm", "id": "\u0000"}'),
    started_by("DEL in the source", "invalid_data", b'{"source": "/crm\x7f", "id": "1"}'),
    started_by("C1 in the source", "invalid_data", '{"source": "/crm\x85", "id": "1"}'.encode()),
    started_by("256 bytes in the id", "invalid_data", b'{"source": "/crm", "id": "' + b"1" * 256 + b'"}'),
    started_by("half a surrogate pair", "invalid_json", rb'{"source": "/crm", "id": "\ud83d"}'),
    started_by("wrong UTF-8", "invalid_json", b'{"source": "/crm", "id": "\xff"}'),
    started_by("half an object", "invalid_json", b'{"source": "/crm", "id": "1"'),
    data("started_by and correlation_id of an end", "event", ENDED, started_by=17, correlation_id={}),
    data("started_by of a form", "event", started_by=17),
)

DOCUMENTS: Final = CORRELATION + REPLACES + STARTED_BY
