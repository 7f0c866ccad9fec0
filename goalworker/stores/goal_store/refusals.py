"""Errors of reading and changing goals (contract section 5, Errors)."""

from collections.abc import Sequence
from uuid import UUID

from goalworker import errors
from goalworker.domain.faults import Fault


class GoalNotFoundError(errors.GoalworkerError):
    """The goal does not exist, is deleted, or belongs to another tenant; callers cannot tell which."""

    def __init__(self, goal_id: UUID) -> None:
        super().__init__(f"Goal {goal_id} not found")
        self.goal_id = goal_id


class InvalidGoalError(errors.GoalworkerError):
    """A draft or change is invalid; every fault at once."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(fault.detail for fault in faults))
        self.faults = tuple(faults)


class DuplicateGoalError(errors.GoalworkerError):
    """The workflow already has a goal of the same type with the same criteria, active or not."""

    def __init__(self, goal_id: UUID) -> None:
        super().__init__(f"Goal {goal_id} of this workflow already has the same goal_type and criteria")
        self.goal_id = goal_id


class TooManyGoalsError(errors.GoalworkerError):
    """The workflow has reached its maximum of goals."""

    def __init__(self, maximum: int) -> None:
        sentence = f"Maximum of {maximum} goals per workflow exceeded"
        self.remedy = "Delete a goal of this workflow, or raise the setting GOALWORKER_GOALS__MAX_PER_WORKFLOW"
        super().__init__(f"{sentence}. {self.remedy}")
        self.sentence = sentence  # the sentence of the contract, without a full stop


class StaleGoalError(errors.GoalworkerError):
    """The goal is at another version than the change expects."""

    def __init__(self, current: int, expected: int) -> None:
        super().__init__(f"The goal is at version {current}, not {expected}; get it again, then change it")


class LockBusyError(errors.DependencyError):
    """Another change or batch held the lock on goals for longer than we wait. Transient."""

    def __init__(self) -> None:
        super().__init__("The goals are locked by another change; try again in a few seconds")
