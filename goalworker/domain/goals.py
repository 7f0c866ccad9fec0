"""Goals: their criteria, their versions, and the logic of a workflow (contract rule 3.1)."""

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Final
from uuid import UUID

from msgspec import Struct

from goalworker.domain.criteria import Criteria

LOGICS: Final = ("any", "all", "never")
DEFAULT_LOGIC: Final = "any"


class Withheld(Struct, frozen=True, gc=False, array_like=True):
    """Exits that a backfill withholds: those of satisfactions before `until` that rest on a hit before `written_at`.

    The version was written then; hits before it count only because it was backfilled.
    """

    written_at: datetime
    until: datetime


class GoalVersion(Struct, frozen=True, gc=False, array_like=True):
    """A goal's criteria from active_from (inclusive) to active_to (exclusive; None while it is in force).

    A version that was backfilled is in force from its counts_from on (contract section 7).
    """

    number: int
    criteria: Criteria
    is_active: bool
    active_from: datetime
    active_to: datetime | None = None
    withheld: Withheld | None = None


class Goal(Struct, frozen=True, gc=False):
    """A condition on a workflow, with every version that it ever had, oldest first."""

    tenant_id: str
    goal_id: UUID
    workflow_id: str
    goal_type: str
    created_at: datetime
    versions: tuple[GoalVersion, ...]

    @property
    def rank(self) -> tuple[datetime, UUID]:
        """Order among goals that one event achieves: the lowest is the completing one (contract rule 3.3)."""
        return (self.created_at, self.goal_id)


class LogicVersion(Struct, frozen=True, gc=False, array_like=True):
    """The logic of a workflow from a moment on, inclusive, until the next one."""

    logic: str
    active_from: datetime


class Workflow(Struct, frozen=True, dict=True):
    """A workflow as judgement needs it: every goal and every logic that it ever had."""

    goals: tuple[Goal, ...] = ()
    logics: tuple[LogicVersion, ...] = ()

    @cached_property
    def goals_by_id(self) -> Mapping[UUID, Goal]:
        """The goals by their id."""
        return {goal.goal_id: goal for goal in self.goals}

    @cached_property
    def withholds_exits(self) -> bool:
        """True if a version of any goal was backfilled without exits."""
        return any(version.withheld is not None for goal in self.goals for version in goal.versions)

    @cached_property
    def is_plain(self) -> bool:
        """True if no version of any goal counts occurrences, has a deadline or asks for correlation."""
        return all(is_plain(version.criteria) for goal in self.goals for version in goal.versions)


def is_plain(criteria: Criteria) -> bool:
    """Say whether the first hit within the window achieves a goal with these criteria."""
    return (criteria.times, criteria.total_amount, criteria.deadline, criteria.correlate_by) == (None, None, None, None)


def kept_seconds(goal: Goal) -> int | None:
    """Return how long a hit of a goal may count, by its versions that count occurrences; None without such a version.

    Hits of the other versions count along (contract rule 3.4).
    """
    longest: int | None = None
    for version in goal.versions:
        criteria = version.criteria
        if criteria.times is not None or criteria.total_amount is not None:
            longest = max(longest or 0, criteria.within or 0, criteria.deadline or 0)
    return longest


def criteria_of(goal: Goal, number: int) -> Criteria:
    """Return the criteria of a version of a goal."""
    versions = goal.versions
    if len(versions) == 1:
        return versions[0].criteria
    place = number - versions[0].number
    if 0 <= place < len(versions) and versions[place].number == number:  # as versions usually are: without gaps
        return versions[place].criteria
    return next(version.criteria for version in versions if version.number == number)


def withheld_of(goal: Goal, number: int) -> Withheld | None:
    """Return the exits that a version of a goal withholds."""
    return next(version.withheld for version in goal.versions if version.number == number)


def version_at(goal: Goal, moment: datetime) -> GoalVersion | None:
    """Return the version of the goal in force at a moment, or None (contract rule 3.1)."""
    for version in reversed(goal.versions):
        if version.active_from <= moment:
            ended = version.active_to is not None and version.active_to <= moment
            return version if version.is_active and not ended else None
    return None


def logic_at(workflow: Workflow, moment: datetime) -> str:
    """Return the logic of a workflow at a moment, `any` before one is set (contract rule 3.3)."""
    for version in reversed(workflow.logics):
        if version.active_from <= moment:
            return version.logic
    return DEFAULT_LOGIC
