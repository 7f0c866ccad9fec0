"""The gates that an event passes on its way to an exit, and the reasons for which it stops (contract section 7)."""

from collections.abc import Mapping
from typing import Final

ENROLLED: Final = "enrolled"
EVENT_SEEN: Final = "event_seen"
VERSION_IN_FORCE: Final = "version_in_force"
CRITERIA: Final = "criteria"
WINDOW: Final = "window"
OCCURRENCE: Final = "occurrence"
THRESHOLD: Final = "threshold"
NOT_STOPPED_BEFORE: Final = "not_stopped_before"
WORKFLOW_ACTIVE: Final = "workflow_active"
EXIT_PUBLISHED: Final = "exit_published"
GATES: Final = (
    ENROLLED,
    EVENT_SEEN,
    VERSION_IN_FORCE,
    CRITERIA,
    WINDOW,
    OCCURRENCE,
    THRESHOLD,
    NOT_STOPPED_BEFORE,
    WORKFLOW_ACTIVE,
    EXIT_PUBLISHED,
)
"""In the order in which an event passes them."""

NOT_ENROLLED: Final = "not_enrolled"
NO_EVENT: Final = "no_event"
GOAL_NOT_IN_FORCE: Final = "goal_not_in_force"
CRITERIA_NOT_MET: Final = "criteria_not_met"
BEFORE_ENROLLMENT: Final = "before_enrollment"
AFTER_END: Final = "after_end"
AFTER_DEADLINE: Final = "after_deadline"
FOUNDING_EVENT: Final = "founding_event"
NOT_CORRELATED: Final = "not_correlated"
REPEATS_OLDER_OCCURRENCE: Final = "repeats_older_occurrence"
REVERSED: Final = "reversed"
BELOW_THRESHOLD: Final = "below_threshold"
STOPPED_BEFORE: Final = "stopped_before"
WAITS_FOR_ACTIVATION: Final = "waits_for_activation"
WAITS_FOR_BACKFILL: Final = "waits_for_backfill"
ACHIEVED: Final = "achieved"

GATE_OF: Final[Mapping[str, str | None]] = {
    NOT_ENROLLED: ENROLLED,
    NO_EVENT: EVENT_SEEN,
    GOAL_NOT_IN_FORCE: VERSION_IN_FORCE,
    CRITERIA_NOT_MET: CRITERIA,
    BEFORE_ENROLLMENT: WINDOW,
    AFTER_END: WINDOW,
    AFTER_DEADLINE: WINDOW,
    FOUNDING_EVENT: WINDOW,
    NOT_CORRELATED: WINDOW,
    REPEATS_OLDER_OCCURRENCE: OCCURRENCE,
    REVERSED: OCCURRENCE,
    BELOW_THRESHOLD: THRESHOLD,
    STOPPED_BEFORE: NOT_STOPPED_BEFORE,
    WAITS_FOR_ACTIVATION: WORKFLOW_ACTIVE,
    WAITS_FOR_BACKFILL: EXIT_PUBLISHED,
    ACHIEVED: None,
}
"""The gate at which each reason stops an event; an achieved goal has passed all that decide on it."""
REASONS: Final = tuple(GATE_OF)
EVENT_REASONS: Final = REASONS[REASONS.index(GOAL_NOT_IN_FORCE) : REASONS.index(STOPPED_BEFORE) + 1]
"""Those of a single event."""

NOT_ACHIEVED: Final = "not_achieved"
UNKNOWN: Final = "unknown"
ANSWERS: Final = (ACHIEVED, NOT_ACHIEVED, UNKNOWN)
