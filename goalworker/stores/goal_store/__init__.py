"""Goals in the database: what people change and read, and what the worker loads (contract sections 3, 5 and 6)."""

from goalworker.stores.goal_store.changes import create, delete, set_logic, update
from goalworker.stores.goal_store.drafts import Changes, Draft, changes, draft
from goalworker.stores.goal_store.loading import check_tracking, ensure_tracking, refresh, revision
from goalworker.stores.goal_store.reading import AuditEntry, Page, StoredGoal, audit, get, logic, page
from goalworker.stores.goal_store.refusals import (
    DuplicateGoalError,
    GoalNotFoundError,
    InvalidGoalError,
    LockBusyError,
    StaleGoalError,
    TooManyGoalsError,
)

__all__ = [
    "AuditEntry",
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
    "audit",
    "changes",
    "check_tracking",
    "create",
    "delete",
    "draft",
    "ensure_tracking",
    "get",
    "logic",
    "page",
    "refresh",
    "revision",
    "set_logic",
    "update",
]
