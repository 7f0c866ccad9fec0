"""Nasty records with the newer fields of `data`, each with what must come of it; a schema can judge each."""

import json
from typing import Final

from tests.kit.hostile import DATA, Record, data, raw

REVERSAL_KINDS: Final = ("payment.refunded", "payment.failed", "appointment.cancelled", "form.rejected")
GOAL_KINDS: Final = tuple(kind for kind in DATA if not kind.startswith("workflow.") and kind not in REVERSAL_KINDS)
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

# Fields of every type that hold ids, each with the good text that stands there.
ID_FIELDS: Final = tuple(
    (kind, name, text)
    for kind, fields in DATA.items()
    for name, text in fields.items()
    if name.endswith("_id") and isinstance(text, str)
)


def id_(token: bytes, outcome: str, kind: str = "form.submitted", name: str = "form_id") -> Record:
    """A good record with an id that is written so."""
    field = f'"{name}": '.encode()
    good = field + f'"{DATA[kind][name]}"'.encode()
    return raw(f"{kind}: {name} {token[:20].decode()}", outcome, good, field + token, kind)


INTEGERS: Final = (
    *(id_(b"17", "event", kind, name) for kind, name, _ in ID_FIELDS),
    *(id_(b"1.0", "invalid_data", kind, name) for kind, name, _ in ID_FIELDS),
    *(id_(token, "event") for token in (b"0", b"-0", b"-1", b"9223372036854775808", b"18446744073709551616")),
    *(id_(token, "event") for token in (b"9" * 255, b"-" + b"9" * 254, b'17, "form_id": 18', rb'"\u0031", "x": 1e400')),
    *(id_(token, "invalid_data") for token in (b"9" * 256, b"-" + b"9" * 255, b"1e3", b"1E0", b"-0.0", b"17.50")),
    *(id_(token, "invalid_data") for token in (b"1e400", b"true", b"false", b"[17]", b'{"id": 17}')),
    *(id_(token, "invalid_json") for token in (b"017", b"+17", b"-", b"1_000", b"0x11", b"Infinity", b"17 18")),
    raw("an integer as the event's id", "invalid_envelope", b'"id": "1"', b'"id": 1'),
    raw("an integer as the tenant", "invalid_envelope", b'"north"', b"17"),
    data("an integer as a tag's name", "invalid_data", "contact.tag.added", tag_name=17),
    data("an integer as a reason", "invalid_data", ENDED, reason=17),
    data("an integer as a currency", "invalid_data", "payment.completed", currency=978),
)


def products(name: str, outcome: str, token: bytes) -> Record:
    """A payment for products that are written so."""
    return raw(f"products: {name}", outcome, b'["sku-1", "sku-2"]', token, "payment.completed")


PRODUCTS: Final = (
    products("null", "event", b"null"),
    products("a null", "event", b"[null]"),
    products("nulls among them", "event", b'[null, "sku-1", null, null, "sku-2"]'),
    products("integers", "event", b'[6801234567890, -0, "sku-1", 18446744073709551616]'),
    products("1,000 and as many nulls", "event", b"[" + b'null, "p",' * 999 + b'null, "p"]'),
    products("50,000 nulls", "event", b"[" + b"null, " * 49_999 + b"null]"),
    products("1,001 and a null", "invalid_data", b"[" + b'"p", ' * 1001 + b"null]"),
    products("1,001 integers", "invalid_data", b"[" + b"7, " * 1000 + b"7]"),
    products("a float", "invalid_data", b"[1.0]"),
    products("an exponent", "invalid_data", b"[1e3]"),
    products("true", "invalid_data", b"[true]"),
    products("256 digits", "invalid_data", b"[" + b"9" * 256 + b"]"),
    products("lists", "invalid_data", b'[["sku-1"]]'),
    products("objects", "invalid_data", b'[{"id": "sku-1"}]'),
    products("an object", "invalid_data", b'{"0": "sku-1"}'),
    products("an integer", "invalid_data", b"17"),
    products("an empty one", "invalid_data", b'[null, ""]'),
    products("NUL", "invalid_data", rb'["\u0000"]'),
    products("half a surrogate pair", "invalid_json", rb'["\ud83d"]'),
    products("half a list", "invalid_json", b"[null, "),
)


def starts_at(name: str, outcome: str, token: bytes) -> Record:
    """An appointment that starts at a time that is written so."""
    return raw(f"starts_at: {name}", outcome, b'"2026-06-01T09:00"', token, BOOKED)


STARTS_AT: Final = (
    *(starts_at(token[:20].decode(), "event", token) for token in (b"null", b"true", b"0", b"-1.5e3", b"1e400")),
    *(starts_at(token[:20].decode(), "event", token) for token in (b"9" * 5000, b"[]", b'{"date": null}', b'""')),
    starts_at("milliseconds", "event", b"1780304400000"),
    starts_at("no time", "event", b'"next Tuesday"'),
    starts_at("letters of two bytes", "event", '"1. März"'.encode()),
    starts_at("parts", "event", b'{"date": "2026-06-01", "slots": [{"from": "09:00", "to": null}]}'),
    starts_at("deep", "event", DEEP),
    starts_at("64 KiB", "event", b'["' + b"x" * 65_536 + b'"]'),
    starts_at("256 bytes", "event", b'"' + b"x" * 256 + b'"'),
    starts_at("256 bytes in two-byte letters", "event", ('"' + "é" * 128 + '"').encode()),
    starts_at("NUL", "event", rb'"\u0000"'),
    starts_at("DEL", "event", b'"\x7f"'),
    starts_at("a line feed in a list", "event", rb'["\n"]'),
    starts_at("a list, then a text", "event", b'[], "starts_at": "2026-06-01T09:00"'),
    starts_at("wrong UTF-8", "invalid_json", b'"\xff"'),
    starts_at("wrong UTF-8 in a list", "invalid_json", b'["\xff"]'),
    starts_at("half a surrogate pair in a list", "invalid_json", rb'["\ud83d"]'),
    starts_at("half a list", "invalid_json", b"["),
    starts_at("NaN", "invalid_json", b"NaN"),
    starts_at("100,000 brackets", "invalid_json", b"[" * 100_000),
)

REFUND: Final = "payment.refunded"
MONEY: Final = b'"amount": "129.90", "currency": "EUR"'


def refund(name: str, outcome: str, **fields: object) -> Record:
    """A good refund with other fields."""
    return data(f"refund: {name}", outcome, REFUND, **fields)


def refunded(token: bytes, outcome: str) -> Record:
    """A refund whose amount is written so."""
    return raw(f"refund: amount {token[:30].decode()}", outcome, b'"129.90"', token, REFUND)


REFUNDS: Final = (
    refund("of the whole payment", "event", amount=None, currency=None),
    refund("of the whole payment, its currency empty", "event", amount=None, currency=""),
    raw("refund: without money", "event", b", " + MONEY, b"", REFUND),
    refund("without an id of its own", "event", refund_id=None),
    refund("an empty id of its own", "event", refund_id=""),
    refund("a lower-case currency", "event", currency="eur"),
    refund("an amount without currency", "invalid_data", currency=None),
    refund("an amount with an empty currency", "invalid_data", currency=""),
    refund("a currency without amount", "invalid_data", amount=None),
    refund("an empty amount", "invalid_data", amount=""),
    refund("an empty amount without currency", "invalid_data", amount="", currency=None),
    refund("a currency of two letters", "invalid_data", currency="EU"),
    refund("a currency that is an integer", "invalid_data", currency=978),
    refund("a bad currency and no amount", "invalid_data", amount=None, currency="EU"),
    refund("no payment", "invalid_data", payment_id=None),
    refund("an empty payment", "invalid_data", payment_id=""),
    refund("a list as its id", "invalid_data", refund_id=["r-1"]),
    refund("NUL in its id", "invalid_data", refund_id="r\x00"),
    refund("products, which are unknown here", "event", product_ids=17, correlation_id=[]),
    raw("refund: amount twice, null at last", "invalid_data", b'"129.90"', b'"129.90", "amount": null', REFUND),
    raw("refund: amount twice, right at last", "event", b'"129.90"', b'true, "amount": 1', REFUND),
    *(refunded(token, "event") for token in (b"0", b"-0.0", b"129.90", b"1e2", b"0e9999", b"1000000000000000")),
    *(refunded(token, "event") for token in (b"0.000000000000000001", b'"007.50"', rb'"\u0031"')),
    *(refunded(token, "invalid_data") for token in (b"-1", b"1e16", b"1e-19", b"1e999999999", b"9" * 5000)),
    *(refunded(token, "invalid_data") for token in (b'"NaN"', b'"1e2"', b'" 1"', b'"-1"', b"true", b"[1]", b"{}")),
    *(refunded(token, "invalid_json") for token in (b"NaN", b"01", b"1.", b"+1")),
)

OTHER_REVERSALS: Final = (
    data("a failed payment without payment", "invalid_data", "payment.failed", payment_id=None),
    data("a failed payment with an amount, which is unknown here", "event", "payment.failed", amount="?"),
    data("a failed payment of nobody", "invalid_data", "payment.failed", contact_id=""),
    data("a cancelled appointment that is an object", "invalid_data", "appointment.cancelled", appointment_id={}),
    data("a cancelled appointment with a line feed", "invalid_data", "appointment.cancelled", appointment_id="a\n1"),
    data("a rejected form without submission", "invalid_data", "form.rejected", submission_id=None),
    data("a rejected form with an empty submission", "invalid_data", "form.rejected", submission_id=""),
    data("a rejected form in letters of two bytes", "event", "form.rejected", submission_id="é" * 127),
    *(
        raw(f"{kind}: data null", "invalid_data", json.dumps(DATA[kind]).encode(), b"null", kind)
        for kind in REVERSAL_KINDS
    ),
    *(
        raw(f"{kind}: of a topic that does not carry it", "foreign_type", b'"form.submitted"', f'"{kind}"'.encode())
        for kind in REVERSAL_KINDS[:3]
    ),
)

DOCUMENTS: Final = INTEGERS + PRODUCTS + STARTS_AT + CORRELATION + REPLACES + STARTED_BY + REFUNDS + OTHER_REVERSALS
