"""What routes are given besides a body: what the process has, ids in the path, the query."""

import re
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import Depends, Path, Request
from msgspec import Struct
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy.ext import asyncio as sa_async
from starlette.responses import Response

from goalworker import config
from goalworker.api import references, response_models, validation
from goalworker.stores import answer_cache

WORKFLOW: Final = "/api/v1/workflows/{workflow_id}"
GOALS: Final = f"{WORKFLOW}/goals"
# A goal's id that is none is an address where nothing is.
GOAL: Final = f"{GOALS}/{{goal_id:uuid}}"

LIMIT_MAX: Final = 200
_OFFSET_MAX: Final = 1_000_000_000


class Context(Struct, frozen=True):
    """What every request may use."""

    settings: config.Settings
    pool: sa_async.AsyncEngine
    references: references.References
    kept: answer_cache.AnswerCache


async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


InContext = Annotated[Context, Depends(_context)]


def json_answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a value as JSON, amounts and times as the contract has them."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


# --- ids ---

WorkflowId = Annotated[validation.Text, Path(description="The workflow, by its engine's id", examples=["onboarding"])]
EnrollmentId = Annotated[validation.Text, Path(description="The enrollment, by its engine's id", examples=["enr_17"])]
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


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class GoalsQuery(_Query):
    """Which of a workflow's goals."""

    offset: Offset = Field(0, description="How many to leave out, in the order of their creation")
    limit: Limit = Field(50, description="How many at most")
    include_deleted: Annotated[bool, BeforeValidator(_boolean)] = Field(False, description="Deleted ones too")


class _Span(_Query):
    since: validation.Moment | None = Field(None, alias="from", description="From this moment on, inclusive")
    until: validation.Moment | None = Field(None, alias="to", description="Up to this moment, exclusive")


class StatsQuery(_Span):
    """Of which enrollments, by the time that they began."""


class AchievementsQuery(_Span):
    """Which of a workflow's achievements, by the time of their events."""

    cursor: str | None = Field(None, description="`next_cursor` of the answer before")
    limit: Limit = Field(50, description="How many at most")
    contact_id: validation.Text | None = Field(None, description="Only of this contact")
    goal_id: UUID | None = Field(None, description="Only of this goal")
