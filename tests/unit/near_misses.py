"""Records that are right, or nearly so, for Hypothesis."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from hypothesis import strategies as st

from tests.kit import hostile

JSON_TOKENS: Final = st.recursive(
    st.sampled_from(
        [
            b"null",
            b"true",
            b"0",
            b"-0",
            b"17",
            b"-1.5e3",
            b"1e400",
            b"NaN",
            b"-Infinity",
            b"9" * 5000,
            b'""',
            rb'"\ud800"',
            rb'"\u0000"',
        ]
    )
    | st.text(max_size=5).map(lambda text: json.dumps(text).encode()),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: b"[" + b",".join(items) + b"]")
        | st.lists(inner, max_size=2).map(lambda items: b"{" + b",".join(b'"k":' + item for item in items) + b"}")
    ),
    max_leaves=4,
)
GOOD_TEXTS: Final = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
TEXTS: Final = (
    GOOD_TEXTS
    | st.text(min_size=1, max_size=8)
    | st.sampled_from(
        ["x" * 255, "x" * 256, "é" * 127, "é" * 128, "\x00", "\x7f", "\x9f", "\xa0", "\u2028", "a\nb", '"\\']
    )
)
TIMES: Final = (
    st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
    | st.builds(
        "{}{:02}:{:02}:{:02}{}{}".format,
        st.sampled_from(["2026-05-01T", "2026-05-01t", "2026-05-01 ", "0001-01-01T", "9999-12-31T", "2026-02-30T"]),
        st.integers(0, 24),
        st.integers(0, 60),
        st.integers(0, 60),
        st.from_regex(r"(\.[0-9]{0,9})?", fullmatch=True) | st.sampled_from([".9999995", ".99999949", ".0000005"]),
        st.sampled_from(["Z", "z", "+00:00", "-00:00", "+23:59", "-23:59", "+24:00", "+0100", "+01", ""]),
    )
    | TEXTS
)
AMOUNTS: Final = st.from_regex(
    r'-?[0-9]{1,17}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?|"[0-9]{1,17}(\.[0-9]{1,20})?"',
    fullmatch=True,
    alphabet=st.characters(codec="ascii"),
).map(str.encode)


def token(text: object, ascii_only: bool = True) -> bytes:
    """Return a value as JSON; without ascii_only half a surrogate pair makes it no UTF-8."""
    return json.dumps(text, ensure_ascii=ascii_only).encode(errors="surrogatepass")


@st.composite
def objects(draw: Callable[[st.SearchStrategy[Any]], Any], good_fields: dict[str, bytes]) -> bytes:
    """Draw a JSON object that is mostly good: fields may be missing, twice there, unknown, or anything."""
    fields = list(good_fields.items())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        name = draw(st.sampled_from([*good_fields, "unknown"]))
        match draw(st.sampled_from(["drop", "text", "any", "twice", "first"])):
            case "drop":
                fields = [field for field in fields if field[0] != name]
            case "text":
                fields.append((name, token(draw(TEXTS), ascii_only=draw(st.booleans()))))
            case "any":
                fields.append((name, draw(JSON_TOKENS)))
            case "twice":
                fields += [(name, draw(JSON_TOKENS)), (name, good_fields.get(name, b"1"))]
            case "first":
                fields.insert(0, (name, draw(JSON_TOKENS)))
    blank: bytes = draw(st.sampled_from([b"", b" ", b"\n\t"]))
    return b"{" + (b"," + blank).join(token(name) + b":" + blank + value for name, value in fields) + b"}" + blank


@st.composite
def records(draw: Callable[[st.SearchStrategy[Any]], Any]) -> tuple[str, bytes, hostile.Headers, int]:
    """Draw a record of any type, in either form, right or nearly so."""
    kind = draw(st.sampled_from(sorted(hostile.DATA)))
    fields = {name: token(value) for name, value in hostile.DATA[kind].items()}
    for name in draw(st.sets(st.sampled_from(sorted(fields)))):
        fields[name] = token(draw(GOOD_TEXTS), ascii_only=draw(st.booleans()))
    if "started_by" in fields:
        fields["started_by"] = draw(objects({"source": token(draw(GOOD_TEXTS)), "id": token(draw(GOOD_TEXTS))}))
    if kind in ("payment.completed", "payment.refunded"):
        fields["amount"] = draw(AMOUNTS)
        fields["currency"] = token(draw(st.sampled_from(["EUR", "EUR", "usd", "EU", "E1R", "ÄÖÜ"])))
    if kind == "payment.completed":
        fields["product_ids"] = token(draw(st.lists(GOOD_TEXTS, max_size=3) | st.lists(TEXTS, max_size=3)))
    data = draw(objects(fields))
    attributes: dict[str, str] = {
        name: draw(GOOD_TEXTS) if name in ("id", "source", "tenantid") else text
        for name, text in hostile.envelope(kind, None).items()
        if name != "data"
    }
    if draw(st.integers(0, 3)) == 0:
        attributes["time"] = draw(TIMES)
    topic = draw(st.sampled_from([hostile.TOPIC_OF_KIND[kind]] * 9 + sorted(hostile.KINDS)))
    timestamp_ms = draw(st.sampled_from([hostile.TIMESTAMP_MS, hostile.TIMESTAMP_MS + 300_001, -1, 2**62]))
    if draw(st.booleans()):
        return topic, draw(objects({**{n: token(t) for n, t in attributes.items()}, "data": data})), (), timestamp_ms
    headers = [(f"ce_{name}", text.encode(errors="surrogatepass")) for name, text in attributes.items()]
    headers += draw(
        st.lists(
            st.tuples(st.sampled_from(["ce_id", "ce_time", "traceparent", "x"]), st.binary(max_size=3)), max_size=1
        )
    )
    return topic, data, tuple(headers), timestamp_ms
