"""Parameters of routes besides the body: the process's context, ids in the path, the query."""

import re
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from fastapi import Depends, Path, Request
from msgspec import Struct
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy.ext import asyncio as sa_async
from starlette.responses import Response

from goalworker import config
from goalworker.api import live_feed, references, response_models, validation
from goalworker.domain import cohorts, seen_values
from goalworker.stores import answer_cache, audit

WORKFLOW: Final = "/api/v1/workflows/{workflow_id}"
GOALS: Final = f"{WORKFLOW}/goals"
STATS: Final = f"{WORKFLOW}/stats"
# A malformed goal id is a 404.
GOAL: Final = f"{GOALS}/{{goal_id:uuid}}"

_SEEN_FIELDS: Final = tuple(dict.fromkeys(field for fields in seen_values.FIELDS.values() for field in fields))
LIMIT_MAX: Final = 200
_OFFSET_MAX: Final = 1_000_000_000


class Context(Struct, frozen=True):
    """Objects of the process that requests share."""

    settings: config.Settings
    pool: sa_async.AsyncEngine
    references: references.References
    answers: answer_cache.AnswerCache
    feed: live_feed.LiveFeed


async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


InContext = Annotated[Context, Depends(_context)]


def json_answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a value as a JSON response."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


# --- ids ---

WorkflowId = Annotated[validation.Text, Path(description="The workflow, by its engine's id", examples=["onboarding"])]
EnrollmentId = Annotated[validation.Text, Path(description="The enrollment, by its engine's id", examples=["enr_17"])]
PlanId = Annotated[UUID, Path(description="The plan", examples=[response_models.EXAMPLE_JOB_ID])]
BackfillId = Annotated[UUID, Path(description="The backfill", examples=[response_models.EXAMPLE_JOB_ID])]
GoalId = Annotated[UUID, Path(description="The goal", examples=[response_models.EXAMPLE_GOAL_ID])]


# --- the query ---


def _whole(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,18}", value):
        raise ValueError("must be a whole number")
    return value


def _boolean(value: Any) -> Any:
    if value not in ("true", "false", False):
        raise ValueError("must be true or false")
    return value


Offset = Annotated[int, Field(ge=0, le=_OFFSET_MAX), BeforeValidator(_whole)]
Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX), BeforeValidator(_whole)]
Format = Literal["json", "csv"] | None
_FORMAT_TEXT: Final = "Form of the answer; without it, the one that the header `Accept` prefers"


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class GoalsQuery(_Query):
    """Query for a page of a workflow's goals."""

    offset: Offset = Field(0, description="Number of goals to skip, in the order of their creation")
    limit: Limit = Field(50, description="Maximum number of entries")
    include_deleted: Annotated[bool, BeforeValidator(_boolean)] = Field(False, description="Include deleted goals")


class Span(_Query):
    """Query for a span of time: from its start until before its end."""

    since: validation.Moment | None = Field(None, alias="from", description="Start, inclusive")
    until: validation.Moment | None = Field(None, alias="to", description="End, exclusive")


class StatsQuery(Span):
    """Query for statistics, by the start of enrollments."""


class TimesQuery(Span):
    """Query for times to goal, by the start of enrollments."""


class SeriesQuery(Span):
    """Query for a series of cohorts, by the start of enrollments."""

    by: Literal[cohorts.PERIODS] = Field(  # type: ignore[valid-type]
        "week", description="Periods of the cohorts, in UTC; weeks begin on Monday"
    )
    horizon: validation.Seconds = Field(
        "P14D",
        validate_default=True,
        description="Time that every enrollment had to convert before its cohort has a rate",
    )
    format: Format = Field(None, description=_FORMAT_TEXT)


class WorkflowsQuery(Span):
    """Query for a page of workflows, with numbers of the enrollments that began in a span."""

    cursor: str | None = Field(None, description="`next_cursor` of the previous page")
    limit: Limit = Field(50, description="Maximum number of entries")
    search: validation.Text | None = Field(
        None, description="Only workflows whose ids contain this, in capitals or not", examples=["welcome"]
    )


class AuditQuery(Span):
    """Query for a page of the audit, by the time of the acts."""

    cursor: str | None = Field(None, description="`next_cursor` of the previous page")
    limit: Limit = Field(50, description="Maximum number of entries")
    action: Literal[audit.ACTIONS] | None = Field(None, description="Only such acts")  # type: ignore[valid-type]
    contact_id: validation.Text | None = Field(None, description="Only explanations of this contact")


class ExplanationsQuery(_Query):
    """Query for explanations: the contact, and perhaps one goal or one enrollment."""

    contact_id: validation.Text = Field(description="The contact", examples=["c-17"])
    goal_id: UUID | None = Field(None, description="Only of this goal")
    enrollment_id: validation.Text | None = Field(None, description="Only of this enrollment")


class SeenValuesQuery(_Query):
    """Query for seen values: the type of events, the field, and perhaps how the values begin."""

    type: Literal[tuple(seen_values.FIELDS)] = Field(  # type: ignore[valid-type]
        description="CloudEvents type of the events", examples=["form.submitted"]
    )
    field: Literal[_SEEN_FIELDS] = Field(  # type: ignore[valid-type]
        description="Field of their data; `stage` for pairs of pipeline and stage", examples=["form_id"]
    )
    prefix: validation.Text | None = Field(None, description="Only values that begin with this")
    limit: Limit = Field(50, description="Maximum number of entries")


class AchievementsQuery(Span):
    """Query for a page of achievements, by the time of their events."""

    cursor: str | None = Field(None, description="`next_cursor` of the previous page")
    limit: Limit = Field(50, description="Maximum number of entries; CSV has all of them")
    format: Format = Field(None, description=_FORMAT_TEXT)
    contact_id: validation.Text | None = Field(None, description="Only of this contact")
    goal_id: UUID | None = Field(None, description="Only of this goal")
