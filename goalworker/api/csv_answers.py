"""CSV answers (RFC 4180) that spreadsheets read as data only."""

import csv
import io
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from goalworker.api import middleware
from goalworker.domain import cohorts, messages

MEDIA_TYPE: Final = "text/csv"
VARY: Final = {"Vary": "Accept"}
"""Header of every answer that has two forms."""
# Spreadsheets take a cell that begins with one of these for a formula; after an apostrophe they show it as text.
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
# Seconds in which a client takes a page of rows; one that is slower is cut off.
PAGE_SECONDS: Final = 60.0

Row = Sequence[object]

_COHORT: Final = ("from", "to", "enrolled", "matured", "converted", "converted_in_time", "rate", "low", "high")
ACHIEVEMENT: Final = (
    *("achievement_id", "revision", "workflow_id", "enrollment_id", "contact_id", "goal_id", "goal_version"),
    *("goal_type", "enrolled_at", "achieved_at", "event_id", "event_source", "event_type", "event_data"),
    *("occurrences", "total_amount", "evidence_complete"),
)
"""Columns of achievements."""


def wanted(request: Request, format_: str | None) -> bool:
    """Say whether a request wants CSV: by its query or else, if it prefers that to JSON, by its header `Accept`."""
    if format_ is not None:
        return format_ == "csv"
    weights = dict(map(_weight, request.headers.get("accept", "").split(",")))
    return weights.get(MEDIA_TYPE, 0.0) > weights.get("application/json", 0.0)


def _weight(accepted: str) -> tuple[str, float]:
    media_type, *parameters = (part.strip().lower() for part in accepted.split(";"))
    weights = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
    try:
        return media_type, float(weights[0]) if weights else 1.0
    except ValueError:
        return media_type, 0.0


def answer(name: str, rows: Iterable[Row]) -> Response:
    """Return rows as a file of this name."""
    return Response(text(rows), media_type=MEDIA_TYPE, headers=_headers(name))


def stream(request: Request, name: str, pages: AsyncIterator[Iterable[Row]]) -> Response:
    """Return pages of rows as a file of this name, each sent before the next one is read."""

    async def chunks() -> AsyncIterator[str]:
        async for page in pages:
            middleware.allow(request, PAGE_SECONDS)
            yield text(page)

    return StreamingResponse(chunks(), media_type=MEDIA_TYPE, headers=_headers(name))


def _headers(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}.csv"', **VARY}


def text(rows: Iterable[Row]) -> str:
    """Return rows as lines of CSV."""
    lines = io.StringIO()
    csv.writer(lines).writerows([[_cell(value) for value in row] for row in rows])
    return lines.getvalue()


def _cell(value: object) -> object:
    plain = msgspec.to_builtins(value, str_keys=True)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return f"'{plain}" if isinstance(plain, str) and plain.startswith(_FORMULA_STARTS) else plain


# --- rows ---


def cohort_rows(series: Sequence[cohorts.Cohort]) -> Iterator[Row]:
    """Yield the header and the rows of a series, with two columns for each currency."""
    currencies = sorted({currency for cohort in series for currency in cohort.gross})
    yield [*_COHORT, *(f"{kind}_{currency}" for currency in currencies for kind in ("gross", "net"))]
    for cohort in series:
        plain = msgspec.to_builtins(cohort)
        amounts = [plain[kind].get(currency) for currency in currencies for kind in ("gross", "net")]
        yield [*(plain[column] for column in _COHORT), *amounts]


def achievement_row(achieved: messages.Achieved) -> Row:
    """Return the row of an achievement."""
    event = achieved.trigger_event
    plain: dict[str, Any] = {
        **msgspec.structs.asdict(achieved),
        "event_id": event.id,
        "event_source": event.source,
        "event_type": event.type,
        "event_data": bytes(event.data).decode(),
    }
    return [None if plain[column] is msgspec.UNSET else plain[column] for column in ACHIEVEMENT]
