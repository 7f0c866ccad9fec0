"""Every goal by what an event carries, in memory: which goals may match, without asking the database."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from goalworker import directory, events, goals, keys, packed

_UNPACKED_WORKFLOWS: Final = 4_096


class Index:
    """All versions of all goals and logics as of a revision; old versions decide late events and `all`.

    At rest a workflow is bytes with a number, which is found by the hash of its ids and of the keys of its goals. A few
    thousand are unpacked: those that were asked for last.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._count = 0
        self._packed: list[bytes] = []
        self._numbers = directory.Directory()
        self._unpack = lru_cache(_UNPACKED_WORKFLOWS)(self._unpack_again)
        self._keys = {goal_type: keys.Keys(goal_type, self._goals) for goal_type in events.GOAL_TYPES}
        self._finders = {events.EVENT_TYPE_OF_GOAL[kind]: keys.finder(of_type) for kind, of_type in self._keys.items()}

    def __len__(self) -> int:
        return self._count

    def workflow(self, tenant_id: str, workflow_id: str) -> goals.Workflow:
        """Return what judgement must know of a workflow."""
        number = self._number(tenant_id, workflow_id)
        return _NO_WORKFLOW if number is None else self._unpack(number)[2]

    def candidates(self, event: events.Event) -> Sequence[goals.Goal]:
        """Return the goals that may match an event, in some version; one may come twice."""
        return self.finder(event.type)(event.tenant_id, event.data)

    def finder(self, event_type: str) -> keys.Find:
        """Return what finds the candidates for events of a type by tenant and data, now and after every change."""
        return self._finders.get(event_type, _find_nothing)

    def replace(
        self,
        changed: Iterable[goals.Goal],
        logics: Mapping[tuple[str, str], tuple[goals.LogicVersion, ...]],
        revision: int,
    ) -> None:
        """Take in goals, and logics by (tenant, workflow), that are new or have changed, each with all its versions.

        A goal stays in its workflow and of its type.
        """
        news: defaultdict[tuple[str, str], list[goals.Goal]] = defaultdict(list, {workflow: [] for workflow in logics})
        for goal in changed:
            news[goal.tenant_id, goal.workflow_id].append(goal)
        for workflow, of_workflow in news.items():
            self._take_in(workflow, of_workflow, logics.get(workflow))
        if news:
            self._unpack.cache_clear()
            for of_type in self._keys.values():
                of_type.forget()
        self.revision = revision

    def _take_in(
        self,
        workflow: tuple[str, str],
        changed: Sequence[goals.Goal],
        logics: tuple[goals.LogicVersion, ...] | None,
    ) -> None:
        number = self._number(*workflow)
        known = _NO_WORKFLOW if number is None else self._unpack_again(number)[2]
        merged = {goal.goal_id: goal for goal in (*known.goals, *changed)}
        as_bytes = packed.pack(*workflow, merged.values(), known.logics if logics is None else logics)
        if number is None:
            number = len(self._packed)
            self._packed.append(as_bytes)
            self._numbers.add(hash(workflow), number)
        else:
            self._packed[number] = as_bytes
        for goal in changed:
            self._keys[goal.goal_type].add(goal, number)
        self._count += len(merged) - len(known.goals)

    def _number(self, tenant_id: str, workflow_id: str) -> int | None:
        for number in self._numbers.find(hash((tenant_id, workflow_id))):
            if self._unpack(number)[:2] == (tenant_id, workflow_id):
                return number
        return None

    def _goals(self, number: int) -> tuple[goals.Goal, ...]:
        return self._unpack(number)[2].goals

    def _unpack_again(self, number: int) -> tuple[str, str, goals.Workflow]:
        return packed.unpack(self._packed[number])


_NO_WORKFLOW: Final = goals.Workflow()


def _find_nothing(_tenant_id: str, _data: object) -> tuple[goals.Goal, ...]:
    return ()
