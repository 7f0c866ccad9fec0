"""In-memory index of all goals by the data of events: it finds the goals that may match without asking the database."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final
from uuid import UUID

from goalworker.domain import events, goals
from goalworker.domain.facts import WorkflowKey
from goalworker.goal_index import codec, keys, multimap

_PAGE_GOALS: Final = 32
"""Goals on a page: a larger page takes longer to unpack, a smaller one packs less tightly."""
_UNPACKED_WORKFLOWS: Final = 2_048
"""Workflows kept unpacked; above this the one that was used longest ago is evicted."""

Goals = dict[UUID, goals.Goal]


class Index:
    """All versions of all goals and logics as of a revision, because old versions decide late events and `all`.

    At rest a workflow is packed bytes on a numbered page, or on several where it has very many goals. The multimap
    finds pages by the hash of a workflow's ids; the keys of goals lead to their locations, which are page and position
    in one number. A few thousand workflows, those used last, are also kept unpacked.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._count = 0
        self._tenants: set[str] = set()
        self._pages: list[bytes] = []
        self._page_numbers = multimap.Multimap()
        self._unpacked = lru_cache(_UNPACKED_WORKFLOWS)(self._find_workflow)
        self._keys = {goal_type: keys.TypeIndex(goal_type, self._goal_at) for goal_type in events.GOAL_TYPES}
        self._finders = {
            events.GOAL_TYPE_TABLE[goal_type].event_type: keys.finder(of_type)
            for goal_type, of_type in self._keys.items()
        }

    def __len__(self) -> int:
        return self._count

    def workflow(self, tenant_id: str, workflow_id: str) -> goals.Workflow:
        """Return a workflow with every goal and every logic that it ever had."""
        return self._unpacked(tenant_id, workflow_id)

    def _find_workflow(self, tenant_id: str, workflow_id: str) -> goals.Workflow:
        numbers = self._pages_of((tenant_id, workflow_id))
        if len(numbers) == 1:
            return self._unpack(numbers[0])
        pages = [self._unpack(number) for number in numbers] or [_NO_WORKFLOW]
        return goals.Workflow(tuple([goal for page in pages for goal in page.goals]), pages[0].logics)

    def candidates(self, event: events.Event) -> Sequence[goals.Goal]:
        """Return the goals that may match an event, in some version; one may come twice."""
        return self.finder(event.type)(event.tenant_id, event.data)

    def finder(self, event_type: str) -> keys.Find:
        """Return the finder of candidates for events of a type; it stays valid when goals change."""
        return self._finders.get(event_type, _find_nothing)

    def replace(
        self,
        changed: Iterable[goals.Goal],
        logics: Mapping[WorkflowKey, tuple[goals.LogicVersion, ...]],
        revision: int,
    ) -> None:
        """Add or replace goals, and logics by (tenant, workflow), each with all its versions.

        A goal never changes its workflow or its type.
        """
        changes: defaultdict[WorkflowKey, Goals] = defaultdict(dict, {workflow_key: {} for workflow_key in logics})
        for goal in changed:
            changes[goal.tenant_id, goal.workflow_id][goal.goal_id] = goal
        # A new tenant has no page to look for; while the index is first loaded, every tenant is new.
        new_tenants = {tenant_id for tenant_id, _ in changes} - self._tenants
        self._tenants |= new_tenants
        for workflow_key, of_workflow in changes.items():
            numbers = [] if workflow_key[0] in new_tenants else self._pages_of(workflow_key)
            self._update(workflow_key, numbers, of_workflow, logics.get(workflow_key))
        if changes:
            self._unpacked.cache_clear()
        if revision != self.revision:  # The last part of a revision has come.
            self._settle()
        self.revision = revision

    def _settle(self) -> None:
        self._page_numbers.settle()
        for of_type in self._keys.values():
            of_type.locations.settle()

    def _update(
        self,
        workflow_key: WorkflowKey,
        numbers: Sequence[int],
        changed: Goals,
        logics: tuple[goals.LogicVersion, ...] | None,
    ) -> None:
        first = numbers[0] if numbers else self._add_page(workflow_key)
        page = self._unpack(first)
        if len(numbers) <= 1 and len(page.goals) + len(changed) <= _PAGE_GOALS:
            self._put(first, workflow_key, page, changed, page.logics if logics is None else logics)
            return
        for number, of_page in self._by_page(workflow_key, first, numbers[-1] if numbers else first, changed).items():
            page = self._unpack(number)
            self._put(number, workflow_key, page, of_page, page.logics if logics is None or number != first else logics)

    def _by_page(self, workflow_key: WorkflowKey, first: int, last: int, changed: Goals) -> Mapping[int, Goals]:
        """Return the changed goals by the page that holds or shall hold them; the first page is always among them."""
        found: defaultdict[int, Goals] = defaultdict(dict, {first: {}})
        on_first_page = {goal.goal_id for goal in self._unpack(first).goals}
        room = _PAGE_GOALS - len(self._unpack(last).goals)
        for goal_id, goal in changed.items():
            number = first if goal_id in on_first_page else self._page_of(workflow_key, goal_id)
            if number is None:
                if room <= 0:
                    last, room = self._add_page(workflow_key), _PAGE_GOALS
                number, room = last, room - 1
                if number != first:  # Only goals beyond the first page need an entry of their own.
                    self._page_numbers.add(hash((workflow_key, goal_id)), number)
            found[number][goal_id] = goal
        return found

    def _add_page(self, workflow_key: WorkflowKey) -> int:
        number = len(self._pages)
        self._pages.append(b"")
        self._page_numbers.add(hash(workflow_key), number)
        return number

    def _put(
        self,
        number: int,
        workflow_key: WorkflowKey,
        page: goals.Workflow,
        changed: Goals,
        logics: tuple[goals.LogicVersion, ...],
    ) -> None:
        merged = {goal.goal_id: goal for goal in page.goals} | changed if page.goals else changed
        self._pages[number] = codec.pack(workflow_key, merged.values(), logics)
        for location, goal in enumerate(merged.values(), number * _PAGE_GOALS):
            if not page.goals or goal.goal_id in changed:
                self._keys[goal.goal_type].add(goal, location)
        self._count += len(merged) - len(page.goals)

    def _pages_of(self, workflow_key: WorkflowKey) -> list[int]:
        numbers = self._page_numbers.find(hash(workflow_key))
        if not numbers:
            return numbers
        prefix = codec.prefix(workflow_key)
        return [number for number in numbers if self._pages[number].startswith(prefix)]

    def _page_of(self, workflow_key: WorkflowKey, goal_id: UUID) -> int | None:
        for number in self._page_numbers.find(hash((workflow_key, goal_id))):
            if any(goal.goal_id == goal_id for goal in self._unpack(number).goals):
                return number
        return None

    def _goal_at(self, location: int) -> goals.Goal:
        return codec.unpack_one(self._pages[location // _PAGE_GOALS], location % _PAGE_GOALS)

    def _unpack(self, number: int) -> goals.Workflow:
        packed = self._pages[number]
        return codec.unpack(packed) if packed else _NO_WORKFLOW


_NO_WORKFLOW: Final = goals.Workflow()


def _find_nothing(_tenant_id: str, _data: object) -> tuple[goals.Goal, ...]:
    return ()
