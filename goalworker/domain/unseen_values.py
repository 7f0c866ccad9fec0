"""Warnings about values in criteria that no event has had, with the nearest ones (contract section 5)."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct
from rapidfuzz import fuzz, process

from goalworker.domain import events
from goalworker.domain.criteria import Criteria, Ids, fold_name
from goalworker.domain.faults import Fault, printable
from goalworker.domain.seen_values import STAGE, parts_of_stage, stage_value

# Days of which the sentence says how often a value came.
RECENT_DAYS: Final = 7
# Likeness in percent from which on a value may be meant: `frm_12` and `frm-12` have 83.
_LIKENESS_MIN: Final = 60


class SeenValue(Struct, frozen=True):
    """A value that events had: how often, and when first and last; recent is how often in the last RECENT_DAYS.

    label is the latest name of a tag.
    """

    value: str
    label: str | None
    count: int
    recent: int
    first_seen: datetime
    last_seen: datetime


class Wanted(Struct, frozen=True):
    """A value that criteria ask for, in a field of seen values; seen if any of these values is."""

    pointer: str
    noun: str
    field: str
    values: tuple[str, ...]


_NOUNS: Final = {
    "tag_id": "tag",
    "tag_name": "tag name",
    "product_id": "product",
    "currency": "currency",
    "calendar_id": "calendar",
    "service_id": "service",
    "form_id": "form",
}


def wanted(goal_type: str, criteria: Criteria) -> Iterator[Wanted]:
    """Yield the values that a goal's criteria ask for."""
    if criteria.stage_id is not None:
        pipelines = _ids(criteria.pipeline_id)
        for stage_id in _ids(criteria.stage_id):
            values = tuple(stage_value(pipeline_id, stage_id) for pipeline_id in pipelines)
            yield Wanted("/criteria/stage_id", "stage", STAGE, values)
        return
    for name in events.GOAL_TYPE_TABLE[goal_type].criteria:
        # A tag's name is a label beside its id.
        if name in _NOUNS and not (name == "tag_name" and criteria.tag_id is not None):
            for value in _ids(getattr(criteria, name)):
                yield Wanted(f"/criteria/{name}", _NOUNS[name], name, (value,))


def _ids(given: Ids | None) -> tuple[str, ...]:
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else given


def is_named(one: Wanted, seen: Collection[SeenValue]) -> bool:
    """Say whether a tag name was seen in another spelling that matches it."""
    return one.field == "tag_name" and fold_name(one.values[0]) in {fold_name(known.value) for known in seen}


def warning(one: Wanted, seen: Sequence[SeenValue]) -> Fault:
    """Return the warning about a value that was never seen; seen are the most frequent ones of its field."""
    nearest = _nearest(one, seen)
    sentence = f"{one.noun} {_shown(one.field, one.values[0])} was never seen"
    if nearest is not None:
        sentence += f"; nearest: {_shown(one.field, nearest.value)}, {_often(nearest)}"
    return Fault(one.pointer, sentence)


def _nearest(one: Wanted, seen: Sequence[SeenValue]) -> SeenValue | None:
    # Of equally near values the most frequent one, which is the first.
    found = process.extractOne(
        one.values[0],
        [known.value for known in seen],
        scorer=fuzz.ratio,
        processor=str.casefold,
        score_cutoff=_LIKENESS_MIN,
    )
    return None if found is None else seen[found[2]]


def _often(seen: SeenValue) -> str:
    if seen.recent:
        return f"{_times(seen.recent)} in {RECENT_DAYS} days"
    return f"{_times(seen.count)}, last on {seen.last_seen:%Y-%m-%d}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _shown(field: str, value: str) -> str:
    if field != STAGE:
        return f"`{printable(value)}`"
    pipeline_id, stage_id = map(printable, parts_of_stage(value))
    return f"`{stage_id}` of pipeline `{pipeline_id}`"
