"""Why a goal is not read or not changed; each says so in a sentence (contract section 5, Errors)."""

from collections.abc import Sequence
from uuid import UUID

from goalworker import errors
from goalworker.domain.faults import Fault


class GoalNotFoundError(errors.GoalworkerError):
    """The goal is not there, is deleted, or is another tenant's: these can't be told apart."""

    def __init__(self, goal_id: UUID) -> None:
        super().__init__(f"There is no goal {goal_id}")
        self.goal_id = goal_id


class InvalidGoalError(errors.GoalworkerError):
    """What was given is no goal; every fault at once."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(fault.detail for fault in faults))
        self.faults = tuple(faults)


class DuplicateGoalError(errors.GoalworkerError):
    """The workflow has a goal of the same type with the same criteria, active or not."""

    def __init__(self, goal_id: UUID) -> None:
        super().__init__(f"The workflow's goal {goal_id} has the same goal_type and criteria already")
        self.goal_id = goal_id


class TooManyGoalsError(errors.GoalworkerError):
    """The workflow has as many goals as it may have."""

    def __init__(self, maximum: int) -> None:
        sentence = f"Maximum of {maximum} goals per workflow exceeded"
        self.remedy = "Delete a goal of this workflow, or raise the setting GOALWORKER_GOALS__MAX_PER_WORKFLOW"
        super().__init__(f"{sentence}. {self.remedy}")
        self.sentence = sentence  # the contract's words, without a stop


class StaleGoalError(errors.GoalworkerError):
    """The goal's version is not the one that the change was meant for."""

    def __init__(self, current: int, expected: int) -> None:
        super().__init__(f"The goal is at version {current}, not {expected}: get it again, then change it")


class LockBusyError(errors.DependencyError):
    """Somebody else kept the goals' lock for longer than we wait; it passes."""

    def __init__(self) -> None:
        super().__init__("The goals are being changed or counted by somebody else: try again in a few seconds")
