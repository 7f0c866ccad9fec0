"""Models of plans and backfills for OpenAPI; the rules of plans are in the stores, which the shell shares."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool

from goalworker.api import goal_models, request_models, response_models
from goalworker.api.validation import Moment, closed
from goalworker.stores import jobs, plan_requests

JobState = Literal[jobs.STATES]  # type: ignore[valid-type]
_TAG: JsonValue = {"goal_type": "tag_added", "criteria": {"tag_id": "customer"}}
_COVERAGE: JsonValue = {
    "history_from": "2026-04-01T00:00:00Z",
    "history_until": None,
    "fresh_as_of": "2026-05-01T12:00:00Z",
    "complete": True,
}
_RESULT: JsonValue = {
    "enrollments": 1200,
    "events": 5310,
    "per_goal": [
        {
            "index": 0,
            "matched_events": 95,
            "would_achieve": 61,
            "more": 41,
            "only_by_this": 9,
            "first_at": "2026-04-02T08:11:00Z",
            "median_hours": 26.5,
            "near_misses": [
                {
                    "pointer": "/min_amount",
                    "count": 812,
                    "example": {"actual": "49.90", "contact_ids": ["contact_42"]},
                }
            ],
        }
    ],
    "would_exit": 37,
    "compared": {"both": 310, "only_planned": 41, "only_live": 0, "earlier": 0, "later": 0},
    "revenue": {"EUR": {"gross": "3999.00", "reversed": "129.00", "net": "3870.00"}},
    "sampled": None,
    "coverage": _COVERAGE,
    "plan_hash": "5d41402abc4b2a76",
}


class PlannedChange(BaseModel):
    """Changes that a stored goal shall have."""

    model_config = closed({"goal_id": response_models.EXAMPLE_GOAL_ID, "changes": {"is_active": False}})

    goal_id: UUID
    changes: request_models.GoalChanges


class PlanRequest(BaseModel):
    """Goals that a workflow shall have in addition to what it has; without any, the plan judges its present ones."""

    model_config = closed({"goals": [_TAG], "sample": 10000})

    goals: list[goal_models.GoalDraft | PlannedChange] | None = Field(  # type: ignore[valid-type]
        None, description="New goals, and changes of stored ones"
    )
    delete: list[UUID] | None = Field(None, description="Stored goals that shall be gone")
    logic: response_models.Logic | None = None
    since: Moment | None = Field(
        None, alias="from", description="Moment since which all this counts; by default since history begins"
    )
    sample: Annotated[int, Field(ge=1, le=plan_requests.SAMPLE_MAX)] | None = Field(
        None, description="How many enrollments to judge at most, drawn evenly; by default all"
    )


class PlanAccepted(BaseModel):
    """A plan that waits for `goalworker insight`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"plan_id": response_models.EXAMPLE_JOB_ID, "state": "queued"}]}
    )

    plan_id: UUID
    state: JobState


class JobProgress(BaseModel):
    """Progress of a job."""

    done: int
    of: int | None = Field(description="null until it is known")


class JobStatus(BaseModel):
    """State of a job."""

    state: JobState
    progress: JobProgress
    error: str = Field(default_factory=str, description="Only of a failed one: why")


class NearMissExample(BaseModel):
    """The nearest amount, or the most frequent value, and contacts whose events said so."""

    actual: str | list[str] | None
    contact_ids: list[str] = Field(max_length=20)


class NearMiss(BaseModel):
    """Events that met every criterion of a goal but one."""

    pointer: str = Field(description="JSON pointer into the criteria")
    count: int
    example: NearMissExample


class PlannedGoal(BaseModel):
    """Achievements of one goal by the plan: a stored one by its id, a new one by its index in the request."""

    goal_id: UUID = Field(default_factory=uuid4)
    index: int = Field(default_factory=int)
    matched_events: int
    would_achieve: int = Field(description="Enrollments that achieve the goal by the plan")
    more: int = Field(description="Of these, those that have not achieved it")
    only_by_this: int = Field(description="Of these, those that achieve nothing else, by the plan or without it")
    first_at: datetime | None
    median_hours: float | None = Field(description="From the enrollment to the achievement")
    near_misses: list[NearMiss]


class Compared(BaseModel):
    """Achievements by the plan and as they are; `earlier` and `later` are among those that are both."""

    both: int
    only_planned: int
    only_live: int
    earlier: int
    later: int


class Sampled(BaseModel):
    """Number of enrollments that were drawn, and of how many."""

    drawn: int
    of: int


class PlanCoverage(BaseModel):
    """Span that was looked at; complete if all events since the plan counts were kept."""

    history_from: datetime | None = Field(description="null if no events are kept")
    history_until: datetime | None = Field(
        description="Events that arrived from then on were not kept yet; null where they were kept within a minute"
    )
    fresh_as_of: datetime | None
    complete: bool


class PlanResult(BaseModel):
    """Achievements of a workflow's enrollments, had the plan been in force."""

    enrollments: int
    events: int = Field(description="Kept events of their contacts")
    per_goal: list[PlannedGoal]
    would_exit: int = Field(description="Enrollments without a recorded end that would be told to stop")
    compared: Compared
    revenue: dict[str, response_models.Revenue] = Field(description="By currency; each payment once")
    sampled: Sampled | None = Field(description="null if all enrollments were judged")
    coverage: PlanCoverage
    plan_hash: str = Field(description="For `goalworker goals apply --plan`: it changes with the goals")


class Plan(JobStatus):
    """State of a plan, and its result once it is done."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "plan_id": response_models.EXAMPLE_JOB_ID,
                    "state": "done",
                    "progress": {"done": 1200, "of": 1200},
                    "result": _RESULT,
                }
            ]
        }
    )

    plan_id: UUID
    result: PlanResult | None


class BackfillRequest(BaseModel):
    """Moment from which a goal shall count, and whether enrollments that it satisfies are told to stop."""

    model_config = closed({"from": "2026-04-01T00:00:00Z", "exits": False})

    since: Moment = Field(alias="from", description="History must reach back to it, and the goal be unchanged since")
    exits: StrictBool = Field(False, description="Whether to send the exits that follow")


class BackfillAccepted(BaseModel):
    """A backfill that waits for `goalworker insight`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"backfill_id": response_models.EXAMPLE_JOB_ID, "state": "queued"}]}
    )

    backfill_id: UUID
    state: JobState


class BackfillResult(BaseModel):
    """Contacts with events of that time, hits of the goal among these, and what is new by them."""

    contacts: int
    hits: int
    achieved: int
    exits: int


class Backfill(JobStatus):
    """State of a backfill, and its result once it is done."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "backfill_id": response_models.EXAMPLE_JOB_ID,
                    "state": "done",
                    "progress": {"done": 310, "of": 310},
                    "result": {"contacts": 310, "hits": 95, "achieved": 61, "exits": 0},
                }
            ]
        }
    )

    backfill_id: UUID
    result: BackfillResult | None
