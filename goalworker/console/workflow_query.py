"""The span, periods and horizon that a page of a workflow is about, from its address to the calls of the API."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib import parse

import msgspec
from pydantic import ValidationError

from goalworker.api import parameters, problems, validation
from goalworker.console import addresses
from goalworker.domain import cohorts, text

WEEKS: Final = 13
"""Weeks of a page whose address names no span: a quarter, the current week included."""

_NAMES: Final = ("from", "to", "by", "horizon")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def first_week(now: datetime) -> datetime:
    """Return the start of the span of a page whose address names none."""
    return cohorts.start_of("week", now) - timedelta(weeks=WEEKS - 1)


def of_address(given: Mapping[str, str], now: datetime) -> parameters.SeriesQuery:
    """Return the query of the series that an address asks for; ProblemError.

    A form gives days, and leaves a field empty for no bound.
    """
    asked = {"from": written(first_week(now))} | {name: given[name] for name in _NAMES if name in given}
    moments = {name: _moment(value) for name, value in asked.items() if value}
    try:
        return parameters.SeriesQuery.model_validate(moments)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise problems.invalid(
            [validation.query_fault({**one, "loc": ("query", *one["loc"])}) for one in found]
        ) from None


def _moment(value: str) -> str:
    return f"{value}T00:00:00Z" if _DAY.fullmatch(value) else value


def span(query: parameters.Span) -> dict[str, str]:
    """Return the bounds of a query as parameters of the API."""
    bounds = {"from": query.since, "to": query.until}
    return {name: written(moment) for name, moment in bounds.items() if moment is not None}


def of_series(query: parameters.SeriesQuery) -> dict[str, str]:
    """Return all of a query as parameters of the API."""
    return {"by": query.by, "horizon": text.format_duration(query.horizon), **span(query)}


def of_page(query: parameters.SeriesQuery) -> dict[str, str]:
    """Return a query as parameters of a page: as those of the API, but that a bound that is missing is empty."""
    return {"from": "", "to": "", **of_series(query)}


def day(moment: datetime | None) -> str:
    """Return the value of a field for a day; empty for no bound."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d}"


def written(moment: datetime) -> str:
    """Return a moment as the API writes it."""
    text_: str = msgspec.to_builtins(moment.astimezone(UTC))
    return text_


def page_of(workflow_id: str) -> str:
    """Return the path of a workflow's page."""
    return f"{addresses.CONSOLE}/workflows/{addresses.segment(workflow_id)}"


def api_path(workflow_id: str) -> str:
    """Return the path of calls of the API about a workflow."""
    return parameters.WORKFLOW.format(workflow_id=parse.quote(workflow_id, safe=""))


def call(path: str, asked: Mapping[str, Any]) -> str:
    """Return an address with its query."""
    return f"{path}?{parse.urlencode(asked, safe=':')}" if asked else path
