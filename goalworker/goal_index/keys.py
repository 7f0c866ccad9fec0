"""Index of the goals of one type by the ids in an event's data; every event is looked up, and most find nothing."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from goalworker.domain import events, goals
from goalworker.domain.criteria import Criteria, Ids, fold_name
from goalworker.goal_index import multimap

_ANY: Final = ""
_NAME: Final = "\n"
"""Special keys: of goals whose criteria name no id, and the prefix of a tag's name.

Ids from outside are never empty and hold no control character, so they cannot collide with these.
"""

_HOT_GOALS: Final = 2_048
"""Goals and keys in the younger generation of the cache; when it is full, the older generation is dropped."""

Goals = tuple[goals.Goal, ...]
Key = tuple[str, str]
"""A tenant, and the id that one of its events must carry."""
Find = Callable[[str, Any], Sequence[goals.Goal]]
GoalAt = Callable[[int], goals.Goal]
"""Returns the goal at a location, a number; it stays there for ever, with all its versions."""


class TypeIndex:
    """Locations of the goals of one type by key; `goal_at` returns the goal at a location.

    No key is ever removed: a goal keeps its workflow, its type and its versions for ever.
    """

    def __init__(self, goal_type: str, goal_at: GoalAt) -> None:
        self.goal_type = goal_type
        self._keys_of = _keys_of(events.GOAL_TYPE_TABLE[goal_type])
        self._goal_at = goal_at
        # A cache of two generations: an entry that is not used while _HOT_GOALS others are is evicted.
        self._hot_goals = 0
        self._hot: dict[Key, Goals] = {}
        self._warm: dict[Key, Goals] = {}
        self.locations = multimap.Multimap()
        # Tenants with special keys: only their events are looked up under such.
        self.special: set[str] = set()
        # Tenants with goals under several ids: their events with several ids are looked up at once.
        self.with_lists: set[str] = set()

    def add(self, goal: goals.Goal, location: int) -> None:
        """Add the location of a goal under every key of all its versions, and evict them from the cache."""
        ids = self._ids_of(goal)
        if len(ids) > 1:
            self.with_lists.add(goal.tenant_id)
        for id_ in ids:
            key = (goal.tenant_id, id_)
            self.locations.add(hash(key), location)
            if self._hot_goals:  # Before the first event the cache is empty.
                self._hot.pop(key, None)
                self._warm.pop(key, None)
            if id_ < " ":
                self.special.add(goal.tenant_id)

    def _ids_of(self, goal: goals.Goal) -> Collection[str]:
        if len(goal.versions) == 1:
            return self._keys_of(goal.versions[0].criteria)
        return {id_ for version in goal.versions for id_ in self._keys_of(version.criteria)}

    def recall(self, key: Key) -> Goals:
        """Return the goals under a key, from the cache if it holds them."""
        return self._hot.get(key) or self._recall_older(key)

    def _recall_older(self, key: Key) -> Goals:
        found = self._warm.get(key) or self._look_up(key)
        if not found:
            return found
        if self._hot_goals >= _HOT_GOALS:
            self._hot, self._warm, self._hot_goals = {}, self._hot, 0
        self._hot[key] = found
        self._hot_goals += 1 + len(found)
        return found

    def find_any(self, tenant_id: str, ids: Iterable[str]) -> Goals:
        """Return the goals under any of the ids, each once and unpacked once, without the cache.

        By recall, a goal with fifty ids would be unpacked and kept fifty times for an event that has them all.
        """
        wanted = set(ids)
        locations = {location for id_ in wanted for location in self.locations.find(hash((tenant_id, id_)))}
        found = map(self._goal_at, sorted(locations))
        return tuple(
            [goal for goal in found if goal.tenant_id == tenant_id and not wanted.isdisjoint(self._ids_of(goal))]
        )

    def _look_up(self, key: Key) -> Goals:
        locations = self.locations.find(hash(key))
        if not locations:
            return ()
        tenant_id, id_ = key
        found = map(self._goal_at, locations)
        return tuple([goal for goal in found if goal.tenant_id == tenant_id and id_ in self._ids_of(goal)])


def _keys_of(row: events.GoalType) -> Callable[[Criteria], tuple[str, ...]]:
    if row.data is events.TagAdded:
        return _keys_of_tag
    value_of = attrgetter(row.index_key)
    return lambda criteria: _each(value_of(criteria) or _ANY)


def _each(ids: Ids) -> tuple[str, ...]:
    return (ids,) if isinstance(ids, str) else ids


def _keys_of_tag(tag: Criteria) -> tuple[str, ...]:
    by_id = () if tag.tag_id is None else _each(tag.tag_id)
    return by_id if tag.tag_name is None else (*by_id, _NAME + fold_name(tag.tag_name))


def finder(keys: TypeIndex) -> Find:
    """Return a finder of the goals that may match an event, by its tenant and data; one may come twice."""
    return _FINDERS[events.GOAL_TYPE_TABLE[keys.goal_type].data](keys)


# Each finder has the sieve and its attribute inline, because nearly every event passes here and most go no further.
# One finder for all types would need an attrgetter: it takes 13 to 25 % longer, 25 to 50 ns an event.


def _tag_finder(keys: TypeIndex) -> Find:
    locations, special, recall = keys.locations, keys.special, keys.recall

    def find(tenant_id: str, tag: events.TagAdded) -> Goals:
        found: Goals = ()
        if tag.tag_id is not None:
            key = (tenant_id, tag.tag_id)
            slot = hash(key) >> locations.sieve_shift
            if locations.sieve[slot >> 3] >> (slot & 7) & 1:
                found = recall(key)
        if tag.tag_name is not None and tenant_id in special:
            found += recall((tenant_id, _NAME + fold_name(tag.tag_name)))
        return found

    return find


def _payment_finder(keys: TypeIndex) -> Find:
    locations, special, recall, with_lists = keys.locations, keys.special, keys.recall, keys.with_lists

    def find(tenant_id: str, payment: events.PaymentCompleted) -> Goals:
        found = recall((tenant_id, _ANY)) if tenant_id in special else ()
        products: Collection[str] = payment.product_ids or ()
        if len(products) > 1:
            if tenant_id in with_lists:
                return found + keys.find_any(tenant_id, products)
            products = set(products)
        for product_id in products:
            key = (tenant_id, product_id)
            slot = hash(key) >> locations.sieve_shift
            if locations.sieve[slot >> 3] >> (slot & 7) & 1:
                found += recall(key)
        return found

    return find


def _appointment_finder(keys: TypeIndex) -> Find:
    locations, special, recall = keys.locations, keys.special, keys.recall

    def find(tenant_id: str, booked: events.AppointmentBooked) -> Goals:
        found = recall((tenant_id, _ANY)) if tenant_id in special else ()
        if booked.calendar_id is not None:
            key = (tenant_id, booked.calendar_id)
            slot = hash(key) >> locations.sieve_shift
            if locations.sieve[slot >> 3] >> (slot & 7) & 1:
                found += recall(key)
        return found

    return find


def _form_finder(keys: TypeIndex) -> Find:
    locations, recall = keys.locations, keys.recall

    def find(tenant_id: str, form: events.FormSubmitted) -> Goals:
        key = (tenant_id, form.form_id)
        slot = hash(key) >> locations.sieve_shift
        return recall(key) if locations.sieve[slot >> 3] >> (slot & 7) & 1 else ()

    return find


def _stage_finder(keys: TypeIndex) -> Find:
    locations, recall = keys.locations, keys.recall

    def find(tenant_id: str, stage: events.StageChanged) -> Goals:
        key = (tenant_id, stage.stage_id)
        slot = hash(key) >> locations.sieve_shift
        return recall(key) if locations.sieve[slot >> 3] >> (slot & 7) & 1 else ()

    return find


_FINDERS: Final[Mapping[type[events.GoalData], Callable[[TypeIndex], Find]]] = {
    events.TagAdded: _tag_finder,
    events.PaymentCompleted: _payment_finder,
    events.AppointmentBooked: _appointment_finder,
    events.FormSubmitted: _form_finder,
    events.StageChanged: _stage_finder,
}
