"""Every goal by what an event carries, in memory: which goals may match, without asking the database."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final
from uuid import UUID

from goalworker.domain import events, goals
from goalworker.goal_index import codec, keys, multimap

_SHELF_GOALS: Final = 32
_UNPACKED_WORKFLOWS: Final = 2_048

WorkflowKey = tuple[str, str]
"""Tenant and id of a workflow."""
Goals = dict[UUID, goals.Goal]


class Index:
    """All versions of all goals and logics as of a revision; old versions decide late events and `all`.

    At rest a workflow is bytes on a shelf with a number, on several where it has very many goals; these are found by
    the hash of its ids and of the keys of its goals. Some thousand are unpacked: those that were asked for last.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._count = 0
        self._tenants: set[str] = set()
        self._shelves: list[bytes] = []
        self._numbers = multimap.Multimap()
        self._recall = lru_cache(_UNPACKED_WORKFLOWS)(self._look_up)
        self._keys = {goal_type: keys.TypeIndex(goal_type, self._goal_at) for goal_type in events.GOAL_TYPES}
        self._finders = {
            events.GOAL_TYPE_TABLE[goal_type].event_type: keys.finder(of_type)
            for goal_type, of_type in self._keys.items()
        }

    def __len__(self) -> int:
        return self._count

    def workflow(self, tenant_id: str, workflow_id: str) -> goals.Workflow:
        """Return what judgement must know of a workflow."""
        return self._recall(tenant_id, workflow_id)

    def _look_up(self, tenant_id: str, workflow_id: str) -> goals.Workflow:
        numbers = self._numbers_of((tenant_id, workflow_id))
        if len(numbers) == 1:
            return self._unpack(numbers[0])
        shelves = [self._unpack(number) for number in numbers] or [_NO_WORKFLOW]
        return goals.Workflow(tuple([goal for shelf in shelves for goal in shelf.goals]), shelves[0].logics)

    def candidates(self, event: events.Event) -> Sequence[goals.Goal]:
        """Return the goals that may match an event, in some version; one may come twice."""
        return self.finder(event.type)(event.tenant_id, event.data)

    def finder(self, event_type: str) -> keys.Find:
        """Return what finds the candidates for events of a type by tenant and data, now and after a change."""
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
        news: defaultdict[WorkflowKey, Goals] = defaultdict(dict, {place: {} for place in logics})
        for goal in changed:
            news[goal.tenant_id, goal.workflow_id][goal.goal_id] = goal
        # A tenant that is new has nothing that could be found, and while all are loaded all are new.
        new_tenants = {tenant_id for tenant_id, _ in news} - self._tenants
        self._tenants |= new_tenants
        for place, of_workflow in news.items():
            numbers = [] if place[0] in new_tenants else self._numbers_of(place)
            self._take_in(place, numbers, of_workflow, logics.get(place))
        if news:
            self._recall.cache_clear()
        if revision != self.revision:  # All has come that was to come.
            self._settle()
        self.revision = revision

    def _settle(self) -> None:
        self._numbers.settle()
        for of_type in self._keys.values():
            of_type.spots.settle()

    def _take_in(
        self, place: WorkflowKey, numbers: Sequence[int], changed: Goals, logics: tuple[goals.LogicVersion, ...] | None
    ) -> None:
        first = numbers[0] if numbers else self._add_shelf(place)
        known = self._unpack(first)
        if len(numbers) <= 1 and len(known.goals) + len(changed) <= _SHELF_GOALS:
            self._put(first, place, known, changed, known.logics if logics is None else logics)
            return
        for number, of_shelf in self._by_shelf(place, first, numbers[-1] if numbers else first, changed).items():
            known = self._unpack(number)
            self._put(number, place, known, of_shelf, known.logics if logics is None or number != first else logics)

    def _by_shelf(self, place: WorkflowKey, first: int, last: int, changed: Goals) -> Mapping[int, Goals]:
        """Return the goals by the shelf that they are on or may be put on; those of the first are there at least."""
        found: defaultdict[int, Goals] = defaultdict(dict, {first: {}})
        on_first = {goal.goal_id for goal in self._unpack(first).goals}
        room = _SHELF_GOALS - len(self._unpack(last).goals)
        for goal_id, goal in changed.items():
            number = first if goal_id in on_first else self._number_of(place, goal_id)
            if number is None:
                if room <= 0:
                    last, room = self._add_shelf(place), _SHELF_GOALS
                number, room = last, room - 1
                if number != first:  # Few workflows have more than one shelf, and few goals need an entry of their own.
                    self._numbers.add(hash((place, goal_id)), number)
            found[number][goal_id] = goal
        return found

    def _add_shelf(self, place: WorkflowKey) -> int:
        number = len(self._shelves)
        self._shelves.append(b"")
        self._numbers.add(hash(place), number)
        return number

    def _put(
        self,
        number: int,
        place: WorkflowKey,
        known: goals.Workflow,
        changed: Goals,
        logics: tuple[goals.LogicVersion, ...],
    ) -> None:
        merged = {goal.goal_id: goal for goal in known.goals} | changed if known.goals else changed
        self._shelves[number] = codec.pack(place, merged.values(), logics)
        for spot, goal in enumerate(merged.values(), number * _SHELF_GOALS):
            if not known.goals or goal.goal_id in changed:
                self._keys[goal.goal_type].add(goal, spot)
        self._count += len(merged) - len(known.goals)

    def _numbers_of(self, place: WorkflowKey) -> list[int]:
        numbers = self._numbers.find(hash(place))
        if not numbers:
            return numbers
        beginning = codec.beginning(place)
        return [number for number in numbers if self._shelves[number].startswith(beginning)]

    def _number_of(self, place: WorkflowKey, goal_id: UUID) -> int | None:
        for number in self._numbers.find(hash((place, goal_id))):
            if any(goal.goal_id == goal_id for goal in self._unpack(number).goals):
                return number
        return None

    def _goal_at(self, spot: int) -> goals.Goal:
        return codec.unpack_one(self._shelves[spot // _SHELF_GOALS], spot % _SHELF_GOALS)

    def _unpack(self, number: int) -> goals.Workflow:
        shelf = self._shelves[number]
        return codec.unpack(shelf) if shelf else _NO_WORKFLOW


_NO_WORKFLOW: Final = goals.Workflow()


def _find_nothing(_tenant_id: str, _data: object) -> tuple[goals.Goal, ...]:
    return ()
