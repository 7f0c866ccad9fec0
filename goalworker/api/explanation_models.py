"""Models of explanations for OpenAPI (contract section 7); domain/explanations.py makes them."""

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from goalworker.api.goal_models import EXAMPLE_GOAL_ID
from goalworker.domain import clauses, events, explanations, gates

Gate = Literal[gates.GATES]  # type: ignore[valid-type]
Reason = Literal[gates.REASONS]  # type: ignore[valid-type]

_PAID: Final[JsonValue] = {
    "source": "/shop",
    "id": "evt_8231",
    "type": "payment.completed",
    "time": "2026-05-01T12:00:00Z",
    "goal_version": 1,
    "stopped_at": "criteria",
    "clauses": [{"pointer": "/min_amount", "op": "at_least", "expected": "50.00", "actual": "49.90", "result": False}],
    "would_achieve_if": [{"pointer": "/amount", "to": "50.00"}],
}
_RESULTS: Final = (True, True, True, False)
_EXAMPLE: Final[dict[str, JsonValue]] = {
    "explanations": [
        {
            "enrollment_id": "enr_17",
            "goal_id": EXAMPLE_GOAL_ID,
            "goal_version": 1,
            "answer": "not_achieved",
            "summary": "c-17 paid 49.90 EUR on 1 May (pay-4711); the goal asks for at least 50.00.",
            "furthest_gate": "criteria",
            "reason": "criteria_not_met",
            "gates": [
                {"gate": gate, "result": dict(enumerate(_RESULTS)).get(number)}
                for number, gate in enumerate(gates.GATES)
            ],
            "events": [_PAID],
            "exit": {"sent_at": None, "published_at": None, "exit_id": None, "waits_for": None},
            "also": {"dead_letters": None, "reversed": [], "merged_from": []},
        }
    ],
    "coverage": {
        "history_from": "2026-04-20T00:00:00Z",
        "hits_from": "2026-05-25T08:00:00Z",
        "fresh_as_of": "2026-06-01T08:00:00Z",
        "complete": True,
        "dead_letters": "not_searched",
    },
}


class Clause(BaseModel):
    """One condition of a goal's criteria, with what the event says about it."""

    pointer: str = Field(description="JSON pointer into the criteria")
    op: Literal[clauses.OPS]  # type: ignore[valid-type]
    expected: str | list[str] = Field(description="What the criteria ask for; amounts are texts")
    actual: str | list[str] | None = Field(description="What the event says; null if it has no such field")
    result: bool


class DataChange(BaseModel):
    """A change of an event's data; with all changes of a list, the event would have achieved the goal."""

    pointer: str = Field(description="JSON pointer into the data; one that ends in `-` adds to the list")
    to: str


class GateResult(BaseModel):
    """The result at one gate; null if it was not evaluated."""

    gate: Gate
    result: bool | None


class ExplainedEvent(BaseModel):
    """An event of the contact that goals of this type look at."""

    source: str
    id: str
    type: Literal[events.GOAL_EVENT_TYPES]  # type: ignore[valid-type]
    time: datetime
    goal_version: int | None = Field(description="The version in force at its time; null if it had no such version")
    stopped_at: Gate | None = Field(description="The gate that it did not pass; null if it counts")
    clauses: list[Clause] = Field(description="All of them are true if the event meets the criteria")
    would_achieve_if: list[DataChange] = Field(
        description="The smallest change of its data with which it would have achieved the goal; tried for the events "
        "that came nearest"
    )


class ExitState(BaseModel):
    """State of an enrollment's exit."""

    sent_at: datetime | None = Field(description="When the exit was decided and its message written")
    published_at: datetime | None = Field(
        description="Time of its record in Kafka; null until `insight` has read that, and once history has dropped it"
    )
    exit_id: UUID | None = Field(description="Also of an exit that waits; null if no exit is due")
    waits_for: Literal["activation", "backfill"] | None


class Reversal(BaseModel):
    """A reversal of the contact that concerns goals of this type."""

    source: str
    id: str
    type: Literal[tuple(events.REVERSAL_DATA)]  # type: ignore[valid-type]
    time: datetime
    subject_id: str = Field(description="The payment, appointment or submission")


class DeadLetter(BaseModel):
    """A dead letter that is the contact's by its key."""

    topic: str = Field(description="The topic that it was read from")
    partition: int = Field(description="This and the offset are its position among the dead letters")
    offset: int
    reason: str


class Also(BaseModel):
    """Other facts about the contact."""

    dead_letters: list[DeadLetter] | None = Field(description="null if they were not searched")
    reversed: list[Reversal]
    merged_from: list[str]


class Explanation(BaseModel):
    """Reasons for which one enrollment achieved one goal, or did not."""

    enrollment_id: str | None = Field(description="null if the contact has no enrollment in the workflow")
    goal_id: UUID
    goal_version: int | None
    answer: Literal[gates.ANSWERS] = Field(  # type: ignore[valid-type]
        description="`unknown` if an event may have come before history begins, or has not been judged yet"
    )
    summary: str = Field(description="One sentence for people")
    furthest_gate: Gate | None = Field(description="Where the event that came furthest stopped; null if achieved")
    reason: Reason
    gates: list[GateResult]
    events: list[ExplainedEvent]
    exit: ExitState
    also: Also


class Coverage(BaseModel):
    """The span of time that an answer rests on."""

    history_from: datetime | None = Field(description="Events that miss a goal are kept since then; null: nobody looks")
    hits_from: datetime | None = Field(description="Hits are kept at least since then")
    fresh_as_of: datetime | None = Field(description="Every record that reached Kafka before this time has been judged")
    complete: bool = Field(description="Whether events are kept since the enrollments began")
    dead_letters: Literal[explanations.SEARCHED, explanations.NOT_SEARCHED]  # type: ignore[valid-type]


class Explanations(BaseModel):
    """Explanations of one contact in one workflow: one for each of its enrollments and each goal."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    explanations: list[Explanation]
    coverage: Coverage
