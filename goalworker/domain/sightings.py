"""Sightings: the kept events of a contact beside one goal, with the version in force then and its clauses."""

from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

from msgspec import Struct, json

from goalworker.domain import clauses, events, facts, goals

Key = tuple[str, str]
"""(source, id) of an event of one tenant."""
Sightings = Mapping[Key, "Sighting"]

_DATA: Final = {row.name: json.Decoder(row.data) for row in events.GOAL_TYPE_TABLE.values()}


class Sighting(Struct, frozen=True):
    """An event of a goal's type; without a version in force it has no clauses.

    would_match says that some version of the goal matches it, whenever that was in force.
    """

    event: events.Event
    version: goals.GoalVersion | None
    clauses: tuple[clauses.Clause, ...]
    would_match: bool

    @property
    def is_hit(self) -> bool:
        """True where the event hits the goal (contract rule 3.1)."""
        return self.version is not None and self.would_match

    def is_hit_of(self, number: int) -> bool:
        """Say whether the event hits this version of the goal."""
        return self.version is not None and self.version.number == number and self.would_match

    @property
    def order(self) -> tuple[object, str, str]:
        """Key by which judgement walks through events (contract rule 3.4)."""
        return (self.event.time, self.event.source, self.event.id)


def sightings_of(goal: goals.Goal, seen: Iterable[events.Event]) -> dict[Key, Sighting]:
    """Return the events of a goal's type beside the goal."""
    type_ = events.GOAL_TYPE_TABLE[goal.goal_type].event_type
    return {(event.source, event.id): _sighting(goal, event) for event in seen if event.type == type_}


def sighting_of_hit(goal: goals.Goal, hit: facts.Hit) -> Sighting:
    """Return a stored hit beside its goal, by the version that it hit: what is once recorded is not changed."""
    trigger, type_ = hit.trigger, events.GOAL_TYPE_TABLE[goal.goal_type].event_type
    data = _DATA[goal.goal_type].decode(trigger.data)
    event = events.Event(hit.tenant_id, trigger.source, trigger.id, type_, trigger.time, data)
    version = next(version for version in goal.versions if version.number == hit.goal_version)
    return Sighting(event, version, clauses.clauses_of(version.criteria, data), would_match=True)


def hits_of(workflow_id: str, seen: Mapping[UUID, Sightings]) -> list[facts.Hit]:
    """Return the hits that events would be, by the sightings of each goal; those of one event share its trigger."""
    triggers: dict[Key, facts.Trigger] = {}
    hits: list[facts.Hit] = []
    for goal_id, of_goal in seen.items():
        for key, one in of_goal.items():
            if one.version is None or not one.would_match:
                continue
            event = one.event
            trigger = triggers.get(key) or triggers.setdefault(key, facts.trigger_of(event))
            contact_id = data_of(event).contact_id
            hits.append(facts.Hit(event.tenant_id, workflow_id, contact_id, goal_id, one.version.number, trigger))
    return hits


def data_of(event: events.Event) -> events.GoalData:
    """Return the data of an event that goals look at."""
    if not isinstance(event.data, events.GoalData):
        raise TypeError(f"{event.type} hits no goals")
    return event.data


def _sighting(goal: goals.Goal, event: events.Event) -> Sighting:
    version, data = goals.version_at(goal, event.time), data_of(event)
    if version is None:
        would_match = any(_all_true(clauses.clauses_of(one.criteria, data)) for one in goal.versions)
        return Sighting(event, None, (), would_match)
    found = clauses.clauses_of(version.criteria, data)
    return Sighting(event, version, found, _all_true(found))


def _all_true(found: Iterable[clauses.Clause]) -> bool:
    return all(clause.result for clause in found)
