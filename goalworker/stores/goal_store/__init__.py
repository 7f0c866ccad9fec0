"""Goals in the database: changes and queries of people, and loading for the worker (contract sections 3, 5 and 6)."""

from goalworker.stores.goal_store.backfilling import BackfillRefusedError
from goalworker.stores.goal_store.backfilling import begin as begin_backfill
from goalworker.stores.goal_store.changes import create, delete, lock, set_logic, update
from goalworker.stores.goal_store.drafts import Changes, Draft, parse_changes, parse_draft, warnings
from goalworker.stores.goal_store.loading import get_revision, load_named, load_workflow, refresh_index
from goalworker.stores.goal_store.reading import AuditEntry, Page, StoredGoal, get, get_audit, get_logic, list_goals
from goalworker.stores.goal_store.refusals import (
    DuplicateGoalError,
    GoalNotFoundError,
    InvalidGoalError,
    LockBusyError,
    StaleGoalError,
    TooManyGoalsError,
)
from goalworker.stores.goal_store.tracking import check_tracking, ensure_tracking, untracked_faults

__all__ = [
    "AuditEntry",
    "BackfillRefusedError",
    "Changes",
    "Draft",
    "DuplicateGoalError",
    "GoalNotFoundError",
    "InvalidGoalError",
    "LockBusyError",
    "Page",
    "StaleGoalError",
    "StoredGoal",
    "TooManyGoalsError",
    "begin_backfill",
    "check_tracking",
    "create",
    "delete",
    "ensure_tracking",
    "get",
    "get_audit",
    "get_logic",
    "get_revision",
    "list_goals",
    "load_named",
    "load_workflow",
    "lock",
    "parse_changes",
    "parse_draft",
    "refresh_index",
    "set_logic",
    "untracked_faults",
    "update",
    "warnings",
]
