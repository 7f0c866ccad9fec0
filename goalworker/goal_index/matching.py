"""Matching of events against the goals of an index (contract rule 3.1)."""

from collections.abc import Iterable

from goalworker.domain import criteria, events, facts, goals
from goalworker.goal_index import index


def hits(event: events.Event, goal_index: index.Index) -> list[facts.Hit]:
    """Return one hit for each goal whose version in force at the event's time matches it, ordered by goal."""
    candidates = goal_index.candidates(event)
    return _matching(candidates, event) if candidates else []


def all_hits(batch: Iterable[events.Event], goal_index: index.Index) -> list[facts.Hit]:
    """Return the hits of a batch of events."""
    return [hit for event in batch for hit in hits(event, goal_index)]


def _matching(candidates: Iterable[goals.Goal], event: events.Event) -> list[facts.Hit]:
    data = event.data
    if not isinstance(data, events.GoalData):
        return []
    matched = [
        (goal, version.number)
        for goal in candidates
        if (version := goals.version_at(goal, event.time)) is not None and criteria.matches(version.criteria, data)
    ]
    if not matched:
        return []
    if len(matched) > 1:  # Sorted by goal, each goal once.
        by_id = {goal.goal_id: (goal, number) for goal, number in matched}
        matched = [by_id[goal_id] for goal_id in sorted(by_id)]
    trigger = facts.trigger_of(event)
    return [
        facts.Hit(
            event.tenant_id,
            goal.workflow_id,
            data.contact_id,
            goal.goal_id,
            number,
            trigger,
            goals.kept_seconds(goal),
        )
        for goal, number in matched
    ]
