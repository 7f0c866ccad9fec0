"""Every goal by what an event carries, in memory: which goals may match, without asking the database."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from goalworker import events, goals

_ANY: Final = ""
"""The key of goals that look at no id; ids from outside are never empty, so none collides with it."""

Keys = dict[str, tuple[goals.Goal, ...]]


class Index:
    """All versions of all goals and logics as of a revision; old versions decide late events and `all`."""

    def __init__(self) -> None:
        self.revision = 0
        self._goals: dict[UUID, goals.Goal] = {}
        self._keys: dict[str, dict[str, Keys]] = {goal_type: {} for goal_type in events.GOAL_TYPES}
        self._workflows: dict[str, dict[str, goals.Workflow]] = {}

    def __len__(self) -> int:
        return len(self._goals)

    def workflow(self, tenant_id: str, workflow_id: str) -> goals.Workflow:
        """Return what judgement must know of a workflow."""
        return self._workflows.get(tenant_id, {}).get(workflow_id, _NO_WORKFLOW)

    def candidates(self, event: events.Event) -> Iterator[goals.Goal]:
        """Yield the goals that may match an event, in some version; one may come twice."""
        keys = self._keys[events.GOAL_TYPE_OF_EVENT[event.type]].get(event.tenant_id)
        if keys is None:
            return
        for key in _KEYS_OF_DATA[type(event.data)](event.data):
            yield from keys.get(key, ())

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
            keys[key] = (*keys.get(key, ()), goal)
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


def _keys_of_tag(tag: goals.Criteria | events.TagAdded) -> Iterator[str]:
    if tag.tag_id is not None:
        yield f"id:{tag.tag_id}"
    if tag.tag_name is not None:
        yield f"name:{goals.folded(tag.tag_name)}"


_KEYS_OF_CRITERIA: Final[Mapping[str, Callable[[goals.Criteria], Iterable[str]]]] = {
    "tag_added": _keys_of_tag,
    "purchase_made": lambda criteria: (criteria.product_id or _ANY,),
    "appointment_booked": lambda criteria: (criteria.calendar_id or _ANY,),
    "form_submitted": lambda criteria: (criteria.form_id or _ANY,),
    "pipeline_stage_reached": lambda criteria: (criteria.stage_id or _ANY,),
}

_KEYS_OF_DATA: Final[Mapping[type, Callable[[Any], Iterable[str]]]] = {
    events.TagAdded: _keys_of_tag,
    events.PaymentCompleted: lambda payment: (*(payment.product_ids or ()), _ANY),
    events.AppointmentBooked: lambda booked: (booked.calendar_id or _ANY, _ANY),
    events.FormSubmitted: lambda form: (form.form_id,),
    events.StageChanged: lambda stage: (stage.stage_id,),
}
