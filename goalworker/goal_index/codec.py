"""A workflow and its goals as bytes: a tenth of what they take as objects, for the many that nobody asks for."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Raw, Struct, msgpack

from goalworker.domain import events, goals


class _Goal(Struct, frozen=True, gc=False, array_like=True):
    goal_id: UUID
    goal_type: int  # which one of GOAL_TYPES
    created_at: datetime | None  # None: when its first version began
    versions: tuple[goals.GoalVersion, ...]


class _Workflow(Struct, frozen=True, gc=False, array_like=True):
    tenant_id: str
    workflow_id: str
    logics: tuple[goals.LogicVersion, ...]
    goals: list[Raw]  # each a _Goal, for mostly one of them is wanted


_ENCODER: Final = msgpack.Encoder(uuid_format="bytes")
_BUFFER: Final = bytearray()
_DECODER: Final = msgpack.Decoder(_Workflow)
_GOAL_DECODER: Final = msgpack.Decoder(_Goal)
_NUMBER_OF_TYPE: Final = {goal_type: number for number, goal_type in enumerate(events.GOAL_TYPES)}


def pack(workflow: tuple[str, str], known: Iterable[goals.Goal], logics: tuple[goals.LogicVersion, ...]) -> bytes:
    """Return a workflow (tenant and id) or a part of it as bytes: times to the microsecond, amounts exactly."""
    # Into a buffer and out of it: what the encoder gives by itself keeps room for a third more.
    _ENCODER.encode_into((*workflow, logics, [_packed(goal) for goal in known]), _BUFFER)
    return bytes(_BUFFER)


def beginning(workflow: tuple[str, str]) -> bytes:
    """Return how the bytes of a workflow begin, and of no other."""
    return _ENCODER.encode((*workflow, (), ()))[:-2]


def unpack(packed: bytes) -> goals.Workflow:
    """Return a workflow as it was packed."""
    found = _DECODER.decode(packed)
    return goals.Workflow(tuple([_unpacked(found, goal) for goal in found.goals]), found.logics)


def unpack_one(packed: bytes, place: int) -> goals.Goal:
    """Return the goal that was packed after so many others."""
    found = _DECODER.decode(packed)
    return _unpacked(found, found.goals[place])


def _packed(goal: goals.Goal) -> tuple[object, ...]:
    versions, created_at = goal.versions, goal.created_at
    began = created_at == versions[0].active_from
    return (goal.goal_id, _NUMBER_OF_TYPE[goal.goal_type], None if began else created_at, versions)


def _unpacked(workflow: _Workflow, packed: Raw) -> goals.Goal:
    goal = _GOAL_DECODER.decode(packed)
    created_at = goal.created_at or goal.versions[0].active_from
    goal_type = events.GOAL_TYPES[goal.goal_type]
    return goals.Goal(workflow.tenant_id, goal.goal_id, workflow.workflow_id, goal_type, created_at, goal.versions)
