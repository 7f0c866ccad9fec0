"""Evidence of judgements: hits kept with an enrollment, so that a sweep of hits changes nothing (contract rule 3.6)."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from msgspec import Raw, Struct, json

from goalworker.domain import facts, goals, judging, occurrences

Others = tuple[tuple[int, facts.Trigger], ...]
"""Hits of one goal and contact: the version of the goal, and the event."""


class KeptHit(Struct, frozen=True, gc=False, omit_defaults=True):
    """A hit that is kept as JSON; `reversed`, of payments, is the amount that was refunded or failed."""

    goal_id: UUID
    goal_version: int
    source: str
    id: str
    time: datetime
    data: Raw
    traceparent: str | None = None
    tracestate: str | None = None
    reversed: Decimal | None = None


class KeptOthers(Struct, frozen=True, gc=False, omit_defaults=True):
    """Evidence of an achievement besides its trigger."""

    hits: list[KeptHit] = []
    occurrences: int | None = None
    total_amount: Decimal | None = None
    is_complete: bool = True


class _KeptCount(Struct, frozen=True, gc=False):
    """The count in KeptOthers, read without building its hits, which may be a thousand."""

    occurrences: int | None = None
    total_amount: Decimal | None = None
    is_complete: bool = True


_KEPT_HITS: Final = json.Decoder(list[KeptHit])
_KEPT_OTHERS: Final = json.Decoder(KeptOthers)
_KEPT_COUNT: Final = json.Decoder(_KeptCount)


def hits_of(
    enrollment: facts.Enrollment, stored: Collection[facts.Achievement], hits: Iterable[facts.Hit]
) -> list[facts.Hit]:
    """Return each event once per goal, from its achievement if it has one, else from the first hit in this order."""
    if not stored and enrollment.satisfied_by is None and enrollment.payments is None:  # as at the first judgement
        new_hits = list(hits)
        return (
            new_hits if len(new_hits) < 2 else list({judging.hit_key(hit): hit for hit in reversed(new_hits)}.values())
        )
    found: dict[judging.HitKey, facts.Hit] = {}

    def add(goal_id: UUID, goal_version: int, trigger: facts.Trigger) -> None:
        hit = hit_of(enrollment, goal_id, goal_version, trigger)
        found.setdefault(judging.hit_key(hit), hit)

    for achievement in stored:  # revoked ones too, so that a sweep of old hits never revokes an achievement
        add(achievement.goal_id, achievement.goal_version, achievement.trigger)
        for goal_version, trigger in achievement.others:
            add(achievement.goal_id, goal_version, trigger)
    for kept in (enrollment.satisfied_by, enrollment.payments):
        for hit in () if kept is None else _KEPT_HITS.decode(kept):
            add(hit.goal_id, hit.goal_version, _trigger(hit))
    for new in hits:
        found.setdefault(judging.hit_key(new), new)
    return list(found.values())


def hit_of(enrollment: facts.Enrollment, goal_id: UUID, goal_version: int, trigger: facts.Trigger) -> facts.Hit:
    """Return the hit of an enrollment's contact that is kept as evidence."""
    whose = (enrollment.tenant_id, enrollment.workflow_id, enrollment.contact_id)
    return facts.Hit(*whose, goal_id, goal_version, trigger)


def others(judgement: judging.Judgement, behind: Iterable[facts.Hit], trigger: facts.Trigger) -> Others:
    """Return the hits besides the trigger of the occurrences behind an achievement, in the order of the walk.

    behind has a hit of each occurrence, in this order.
    """
    if judgement.occurrence_of:
        found: dict[judging.HitKey, facts.Hit] = {}
        for one in behind:
            if judging.hit_key(one) not in found:  # of a revoked achievement, these are all hits of its occurrences
                found |= {judging.hit_key(hit): hit for hit in _hits_of_occurrence(judgement, one)}
        behind = sorted(found.values(), key=judging.ORDER)
    source, id_ = trigger.source, trigger.id
    return tuple(
        [(hit.goal_version, hit.trigger) for hit in behind if hit.trigger.id != id_ or hit.trigger.source != source]
    )


def _hits_of_occurrence(judgement: judging.Judgement, hit: facts.Hit) -> tuple[facts.Hit, ...]:
    occurrence = judgement.occurrence_of.get(judging.hit_key(hit))
    return (hit,) if occurrence is None else occurrence.hits


def others_to_json(achievement: facts.Achievement) -> str | None:
    """Return the evidence of an achievement besides its trigger as JSON, None without any."""
    counted = achievement.counted
    if counted is None and not achievement.others:
        return None
    hits = [_kept(achievement.goal_id, version, trigger) for version, trigger in achievement.others]
    if counted is None:
        return json.encode(KeptOthers(hits)).decode()
    kept = KeptOthers(hits, counted.occurrences, counted.total_amount, counted.is_complete)
    return json.encode(kept).decode()


def others_from_json(kept: str | None) -> tuple[facts.Counted | None, Others]:
    """Return the count and the other hits of an achievement from what others_to_json() returned."""
    if kept is None:
        return None, ()
    found = _KEPT_OTHERS.decode(kept)
    return _counted(found), tuple([(hit.goal_version, _trigger(hit)) for hit in found.hits])


def counted_from_json(kept: str | None) -> facts.Counted | None:
    """Return the count alone of what others_to_json() returned."""
    return None if kept is None else _counted(_KEPT_COUNT.decode(kept))


def _counted(kept: KeptOthers | _KeptCount) -> facts.Counted | None:
    if kept.occurrences is None:
        return None
    return facts.Counted(kept.occurrences, kept.total_amount, kept.is_complete)


def satisfying(judgement: judging.Judgement) -> str | None:
    """Return the satisfying hit as it is kept, with those of its occurrence, None where an achievement holds it."""
    if judgement.satisfaction is None or judgement.satisfaction.hit in judgement.achieved:
        return None
    of_occurrence = _hits_of_occurrence(judgement, judgement.satisfaction.hit)
    return json.encode([_kept(one.goal_id, one.goal_version, one.trigger) for one in of_occurrence]).decode()


def payments(
    workflow: goals.Workflow,
    judgement: judging.Judgement,
    unreversed: judging.Judgement,
    reversals: Sequence[facts.Reversal],
) -> str | None:
    """Return the payments that are revenue of an enrollment, None if they are just the triggers of its achievements.

    They are those behind its purchase achievements, and those that would be had nothing been reversed (contract
    section 5).
    """
    usual = {key for key, hit in _payments(workflow, judgement).items() if hit.goal_id not in judgement.counts}
    found = revenue_hits(workflow, judgement, unreversed)
    of_payment = occurrences.by_subject(reversals)
    rows = [
        _kept(hit.goal_id, hit.goal_version, hit.trigger, occurrences.taken_back(hit.trigger, of_payment))
        for _, hit in sorted(found.items())
    ]
    if found.keys() == usual and not any(row.reversed for row in rows):
        return None
    return json.encode(rows).decode() if rows else None


def revenue_hits(
    workflow: goals.Workflow, judgement: judging.Judgement, unreversed: judging.Judgement
) -> dict[judging.HitKey, facts.Hit]:
    """Return the hits that are revenue: the payments behind purchases, and those that would be without reversals."""
    found = _payments(workflow, judgement)
    if unreversed is not judgement:
        found |= {key: hit for key, hit in _payments(workflow, unreversed).items() if key not in found}
    return found


def _payments(workflow: goals.Workflow, judgement: judging.Judgement) -> dict[judging.HitKey, facts.Hit]:
    found: dict[judging.HitKey, facts.Hit] = {}
    for hit in judgement.achieved:
        if workflow.goals_by_id[hit.goal_id].goal_type != "purchase_made":
            continue
        count = judgement.counts.get(hit.goal_id)
        found |= {judging.hit_key(one): one for one in ((hit,) if count is None else count.hits)}
    return found


def _kept(goal_id: UUID, goal_version: int, trigger: facts.Trigger, taken_back: Decimal | None = None) -> KeptHit:
    return KeptHit(
        goal_id,
        goal_version,
        trigger.source,
        trigger.id,
        trigger.time,
        Raw(trigger.data),
        trigger.traceparent,
        trigger.tracestate,
        taken_back,
    )


def _trigger(kept: KeptHit) -> facts.Trigger:
    return facts.Trigger(kept.source, kept.id, kept.time, bytes(kept.data), kept.traceparent, kept.tracestate)
