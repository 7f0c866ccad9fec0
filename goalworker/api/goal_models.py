"""Models of goals and of drafts, made from the table of goal types, one each per type, told apart by `goal_type`.

A field with a default factory is one that an answer may leave out; it is never null.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid4

from msgspec import Struct
from pydantic import BaseModel, Field, JsonValue, create_model
from typing_extensions import TypeAliasType

from goalworker.api.validation import Text, closed
from goalworker.domain import criteria
from goalworker.domain.criteria import IDS_MAX
from goalworker.domain.criteria_parsing import TIMES_MAX, TIMES_MIN
from goalworker.domain.events import GOAL_TYPE_TABLE, GoalType
from goalworker.domain.text import AMOUNT_MAX, MAJOR_UNITS

EXAMPLE_GOAL_ID: Final = "5f0c9b0e-8d1f-4b9e-9a53-0d4f0a3f6f6b"


class _Texts(Struct, frozen=True):
    """Texts in OpenAPI about one goal type; `title` begins the names of its schemas."""

    title: str
    event: str
    criteria: str
    criteria_of_draft: str
    example: dict[str, JsonValue]
    example_name: str


_TEXTS: Final[Mapping[str, _Texts]] = {
    "tag_added": _Texts(
        title="Tag",
        event="a contact gets a tag",
        criteria="A tag, by id (or one of several), by name or both.",
        criteria_of_draft="`tag_id`, `tag_name` or both: compared by id where both sides have one, otherwise by name, "
        "ignoring case.",
        example={"tag_id": "customer"},
        example_name="Is a customer",
    ),
    "purchase_made": _Texts(
        title="Purchase",
        event="a contact pays",
        criteria="A purchase that matches every field, or any purchase.",
        criteria_of_draft="One or more fields, all of which must match; or `any_purchase: true` alone.",
        example={"min_amount": "100", "currency": "EUR"},
        example_name="First real purchase",
    ),
    "appointment_booked": _Texts(
        title="Appointment",
        event="a contact books an appointment",
        criteria="An appointment that matches every field, or any appointment.",
        criteria_of_draft="`calendar_id`, `service_id` or both, which must match; or `any_appointment: true` alone.",
        example={"any_appointment": True},
        example_name="First call",
    ),
    "form_submitted": _Texts(
        title="Form",
        event="a contact submits a form",
        criteria="A form, or one of several.",
        criteria_of_draft="A form, or one of several.",
        example={"form_id": "signup"},
        example_name="Signed up",
    ),
    "pipeline_stage_reached": _Texts(
        title="Stage",
        event="a contact reaches a stage of a pipeline",
        criteria="A stage of a pipeline, or one of several.",
        criteria_of_draft="A stage of a pipeline, or one of several.",
        example={"pipeline_id": "sales", "stage_id": ["signed", "won"]},
        example_name="Won",
    ),
}


DEEDS: Final[Mapping[str, str]] = {name: texts.event for name, texts in _TEXTS.items()}
"""What a contact does, by goal type: a contact gets a tag."""


# Types made from a table are nothing that a type checker can follow.
_create: Final[Any] = create_model
_alias: Final[Any] = TypeAliasType


def _tagged_union(name: str, models: Iterable[Any]) -> Any:
    return _alias(name, Annotated[reduce(or_, models), Field(discriminator="goal_type")])


_SETTING_TEXTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "times": {"description": "Number of events after which the goal is achieved", "examples": [3]},
    "total_amount": {
        "description": f"Sum of payments at which the goal is achieved, {MAJOR_UNITS}",
        "examples": ["500"],
    },
    "within": {
        "description": "Span of `times` or `total_amount`: an ISO 8601 duration of whole seconds up to P365D",
        "examples": ["P30D"],
    },
    "deadline": {
        "description": "Longest time since the enrollment: an ISO 8601 duration of whole seconds up to P365D",
        "examples": ["P14D"],
    },
    "reversals": {
        "description": "Whether a refund, cancellation or rejection revokes the achievement (the default) or keeps it",
        "examples": [criteria.KEEP],
    },
    "correlate_by": {
        "description": "Field of the event that must equal the enrollment's `correlation_id`",
        "examples": ["correlation_id"],
    },
}


# --- stored goals ---

Ids = _alias("Ids", str | Annotated[list[str], Field(min_length=2, max_length=IDS_MAX)])
_IDS_TEXT: Final = "One id, or several of which any will do, sorted"
_STORED_FIELDS: Final[Mapping[str, Any]] = {
    "tag_name": (str, Field(default_factory=str)),
    "min_amount": (
        str,
        Field(default_factory=str, description=f"Inclusive, {MAJOR_UNITS}; without trailing zeros", examples=["100"]),
    ),
    "currency": (str, Field(default_factory=str, examples=["EUR"])),
}


def _criteria(row: GoalType, texts: _Texts) -> Any:
    requirement: Any = {} if row.are_criteria_required else {"default_factory": str}
    ids = (Ids, Field(**requirement, description=_IDS_TEXT))
    fields = {name: _STORED_FIELDS.get(name, ids) for name in row.criteria}
    if row.any_flag:
        about = f"If present, `true`, and none of {', '.join(row.criteria)} is"
        fields[row.any_flag] = (bool, Field(default_factory=bool, description=about))
    return _create(f"{texts.title}Criteria", __doc__=texts.criteria, **fields, **_settings(row))


def _settings(row: GoalType) -> dict[str, Any]:
    kinds: Mapping[str, tuple[Any, Any]] = {
        "times": (int, int),
        "total_amount": (str, str),
        "within": (str, str),
        "deadline": (str, str),
        "reversals": (Literal[criteria.KEEP], str),
        "correlate_by": (Literal[criteria.correlations_of(row)], str),
    }
    return {
        name: (kinds[name][0], Field(default_factory=kinds[name][1], **_SETTING_TEXTS[name]))
        for name in criteria.settings_of(row)
    }


class GoalFault(BaseModel):
    """A fault in one goal, or a warning about it, named by its index in the request or by its id."""

    goal_id: UUID = Field(default_factory=uuid4, description="Id of a stored goal")
    index: int = Field(default_factory=int, description="Index of a goal in the request, from 0")
    pointer: str
    detail: str


class _State(BaseModel):
    name: str | None
    is_active: bool


def _state(row: GoalType, texts: _Texts) -> Any:
    return _create(
        f"{texts.title}GoalState",
        __base__=_State,
        __doc__=f"State of a goal at one moment: {texts.event}.",
        goal_type=Literal[row.name],
        criteria=_criteria(row, texts),
    )


class _Stored(BaseModel):
    id: UUID
    workflow_id: str
    version: int = Field(ge=1, description="Grows by 1 with every change; the ETag is this version in quotes")
    created_at: datetime
    created_by: str
    updated_at: datetime = Field(description="Moment from which this version is in force")
    updated_by: str
    deleted_at: datetime | None
    warnings: list[GoalFault] = Field(
        default_factory=list, description="In answers to POST and PATCH: what is allowed and seldom meant"
    )


def _goal(state: Any, row: GoalType, texts: _Texts) -> Any:
    example = {
        "id": EXAMPLE_GOAL_ID,
        "workflow_id": "onboarding",
        "goal_type": row.name,
        "criteria": texts.example,
        "name": texts.example_name,
        "is_active": True,
        "version": 1,
        "created_at": "2026-05-01T12:00:00.000001Z",
        "created_by": "ann",
        "updated_at": "2026-05-01T12:00:00.000001Z",
        "updated_by": "ann",
        "deleted_at": None,
    }
    return _create(
        f"{texts.title}Goal",
        __base__=(_Stored, state),
        __doc__=f"Goal: {texts.event}.",
        __cls_kwargs__={"json_schema_extra": {"examples": [example]}},
    )


_STATES: Final = {name: _state(row, _TEXTS[name]) for name, row in GOAL_TYPE_TABLE.items()}
GoalState = _tagged_union("GoalState", _STATES.values())
Goal = _tagged_union("Goal", [_goal(_STATES[name], row, _TEXTS[name]) for name, row in GOAL_TYPE_TABLE.items()])


# --- drafts ---

_AmountText = Annotated[str, Field(pattern=r"^[0-9]{1,15}(\.[0-9]{1,18})?$")]
Amount = Annotated[float, Field(ge=0, le=float(AMOUNT_MAX))] | _AmountText
_Total = Annotated[float, Field(gt=0, le=float(AMOUNT_MAX))] | _AmountText
_Duration = Annotated[
    str,
    Field(
        pattern="^P([0-9]{1,9}W)?([0-9]{1,9}D)?(T([0-9]{1,9}H)?([0-9]{1,9}M)?([0-9]{1,9}S)?)?$",
        min_length=len("P1D"),
    ),
]
IdsDraft = _alias("IdsDraft", Text | Annotated[list[Text], Field(min_length=1, max_length=IDS_MAX)])
_IDS_DRAFT_TEXT: Final = f"One id, or a list of 1 to {IDS_MAX} of which any will do"
_DRAFT_FIELDS: Final[Mapping[str, Any]] = {
    "tag_name": (Text | None, None),
    "min_amount": (
        Amount | None,
        Field(None, description=f"Inclusive, {MAJOR_UNITS}; at most 18 decimals, kept exactly"),
    ),
    "currency": (Annotated[str, Field(pattern="^[A-Za-z]{3}$")] | None, None),
}


def _criteria_draft(row: GoalType, texts: _Texts) -> Any:
    required = (IdsDraft, Field(description=_IDS_DRAFT_TEXT))
    optional = (IdsDraft | None, Field(None, description=_IDS_DRAFT_TEXT))
    ids = required if row.are_criteria_required else optional
    fields = {name: _DRAFT_FIELDS.get(name, ids) for name in row.criteria}
    if row.any_flag:
        fields[row.any_flag] = (bool | None, None)
    fields |= _settings_of_draft(row)
    config = closed(texts.example, **({} if row.are_criteria_required else {"minProperties": 1}))
    return _create(f"{texts.title}CriteriaDraft", __doc__=texts.criteria_of_draft, __config__=config, **fields)


def _settings_of_draft(row: GoalType) -> dict[str, Any]:
    kinds: Mapping[str, Any] = {
        "times": Annotated[int, Field(ge=TIMES_MIN, le=TIMES_MAX)],
        "total_amount": _Total,
        "within": _Duration,
        "deadline": _Duration,
        "reversals": Literal[criteria.REVOKE, criteria.KEEP],
        "correlate_by": Literal[criteria.correlations_of(row)],
    }
    return {name: (kinds[name] | None, Field(None, **_SETTING_TEXTS[name])) for name in criteria.settings_of(row)}


def _draft(of_type: Any, row: GoalType, texts: _Texts) -> Any:
    return _create(
        f"{texts.title}GoalDraft",
        __doc__=f"New goal: {texts.event}.",
        __config__=closed({"goal_type": row.name, "criteria": texts.example, "name": texts.example_name}),
        name=(Text | None, Field(None, description="Display name")),
        goal_type=Literal[row.name],
        criteria=of_type,
    )


_CRITERIA_DRAFTS: Final = {name: _criteria_draft(row, _TEXTS[name]) for name, row in GOAL_TYPE_TABLE.items()}
CriteriaDraft = _alias("CriteriaDraft", reduce(or_, _CRITERIA_DRAFTS.values()))
GoalDraft = _tagged_union(
    "GoalDraft", [_draft(_CRITERIA_DRAFTS[name], row, _TEXTS[name]) for name, row in GOAL_TYPE_TABLE.items()]
)
