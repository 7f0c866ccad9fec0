"""Every goal by what an event carries, in memory: which goals may match, without asking the database."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from goalworker import events, goals

_ANY: Final = ""
_NAME: Final = "\n"
_HAS_NAMES: Final = "\r"
"""Keys that are no ids: of goals that look at none, before the name of a tag, and where there are such names.

Ids from outside are never empty and have no control characters, so none collides with these.
"""

Goals = tuple[goals.Goal, ...]
Keys = dict[str, Goals]


class Index:
    """All versions of all goals and logics as of a revision; old versions decide late events and `all`."""

    def __init__(self) -> None:
        self.revision = 0
        self._goals: dict[UUID, goals.Goal] = {}
        self._keys: dict[str, dict[str, Keys]] = {goal_type: {} for goal_type in events.GOAL_TYPES}
        self._workflows: dict[str, dict[str, goals.Workflow]] = {}
        # By the type of the event: the keys of each tenant, and how to look there. Lifecycle events have none.
        self._finders: dict[str, tuple[dict[str, Keys], Find]] = {
            kind: (self._keys[events.GOAL_TYPE_OF_EVENT[kind]], find) for kind, find in _FIND.items()
        }

    def __len__(self) -> int:
        return len(self._goals)

    def workflow(self, tenant_id: str, workflow_id: str) -> goals.Workflow:
        """Return what judgement must know of a workflow."""
        return self._workflows.get(tenant_id, {}).get(workflow_id, _NO_WORKFLOW)

    def candidates(self, event: events.Event) -> Goals:
        """Return the goals that may match an event, in some version; one may come twice."""
        return self.finder(event.type)(event.tenant_id, event.data)

    def finder(self, event_type: str) -> Callable[[str, Any], Goals]:
        """Return what gives the candidates for a tenant and the data of an event; it holds after replace() too."""
        found = self._finders.get(event_type)
        if found is None:
            return lambda *_: ()
        tenants, find = found

        def candidates(tenant_id: str, data: Any) -> Goals:
            keys = tenants.get(tenant_id)
            return find(keys, data) if keys else ()

        return candidates

    def replace(
        self,
        changed: Iterable[goals.Goal],
        logics: Mapping[tuple[str, str], tuple[goals.LogicVersion, ...]],
        revision: int,
    ) -> None:
        """Take in goals, and logics by (tenant, workflow), that are new or have changed, each with all its versions."""
        for goal in changed:
            self._remove(goal.goal_id)
            self._add(goal)
        for (tenant_id, workflow_id), versions in logics.items():
            known = self.workflow(tenant_id, workflow_id)
            self._set_workflow(tenant_id, workflow_id, goals.Workflow(known.goals, versions))
        self.revision = revision

    def _add(self, goal: goals.Goal) -> None:
        self._goals[goal.goal_id] = goal
        keys = self._keys[goal.goal_type].setdefault(goal.tenant_id, {})
        for key in _keys_of_goal(goal):
            keys[key] = (*keys.get(key, ()), goal) if key is not _HAS_NAMES else ()
        known = self.workflow(goal.tenant_id, goal.workflow_id)
        self._set_workflow(goal.tenant_id, goal.workflow_id, goals.Workflow((*known.goals, goal), known.logics))

    def _remove(self, goal_id: UUID) -> None:
        goal = self._goals.pop(goal_id, None)
        if goal is None:
            return
        keys = self._keys[goal.goal_type][goal.tenant_id]
        for key in _keys_of_goal(goal):
            keys[key] = tuple(other for other in keys[key] if other.goal_id != goal_id)
        known = self.workflow(goal.tenant_id, goal.workflow_id)
        others = tuple(other for other in known.goals if other.goal_id != goal_id)
        self._set_workflow(goal.tenant_id, goal.workflow_id, goals.Workflow(others, known.logics))

    def _set_workflow(self, tenant_id: str, workflow_id: str, workflow: goals.Workflow) -> None:
        self._workflows.setdefault(tenant_id, {})[workflow_id] = workflow


_NO_WORKFLOW: Final = goals.Workflow()


def _keys_of_goal(goal: goals.Goal) -> set[str]:
    keys_of = _KEYS_OF_CRITERIA[goal.goal_type]
    return {key for version in goal.versions for key in keys_of(version.criteria)}


def _keys_of_tag(tag: goals.Criteria) -> Iterator[str]:
    if tag.tag_id is not None:
        yield tag.tag_id
    if tag.tag_name is not None:
        yield _NAME + goals.folded(tag.tag_name)
        yield _HAS_NAMES


_KEYS_OF_CRITERIA: Final[Mapping[str, Callable[[goals.Criteria], Iterable[str]]]] = {
    "tag_added": _keys_of_tag,
    "purchase_made": lambda criteria: (criteria.product_id or _ANY,),
    "appointment_booked": lambda criteria: (criteria.calendar_id or _ANY,),
    "form_submitted": lambda criteria: (criteria.form_id or _ANY,),
    "pipeline_stage_reached": lambda criteria: (criteria.stage_id or _ANY,),
}

Find = Callable[[Keys, Any], Goals]


def _find_by_tag(keys: Keys, tag: events.TagAdded) -> Goals:
    found = keys.get(tag.tag_id, ()) if tag.tag_id is not None else ()
    if tag.tag_name is not None and _HAS_NAMES in keys:
        return found + keys.get(_NAME + goals.folded(tag.tag_name), ())
    return found


def _find_by_payment(keys: Keys, payment: events.PaymentCompleted) -> Goals:
    found = keys.get(_ANY, ())
    for product_id in payment.product_ids or ():
        found += keys.get(product_id, ())
    return found


def _find_by_appointment(keys: Keys, booked: events.AppointmentBooked) -> Goals:
    found = keys.get(_ANY, ())
    return found + keys.get(booked.calendar_id, ()) if booked.calendar_id is not None else found


_FIND: Final[Mapping[str, Find]] = {
    "contact.tag.added": _find_by_tag,
    "payment.completed": _find_by_payment,
    "appointment.booked": _find_by_appointment,
    "form.submitted": lambda keys, form: keys.get(form.form_id, ()),
    "pipeline.stage.changed": lambda keys, stage: keys.get(stage.stage_id, ()),
}
