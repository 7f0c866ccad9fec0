"""Evidence of judgements: hits kept with an enrollment, so that a sweep of hits changes nothing (contract rule 3.6)."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from msgspec import Raw, Struct, json

from goalworker.domain import facts, goals, judging, occurrences


class KeptHit(Struct, frozen=True, gc=False, omit_defaults=True):
    """A hit that is kept as JSON; `reversed` belongs to payments: what was taken back of it."""

    goal_id: UUID
    goal_version: int
    source: str
    id: str
    time: datetime
    data: Raw
    traceparent: str | None = None
    tracestate: str | None = None
    reversed: Decimal | None = None


class KeptCount(Struct, frozen=True, gc=False, omit_defaults=True):
    """facts.Counted that is kept as JSON."""

    hits: list[KeptHit]
    total_amount: Decimal | None = None
    is_complete: bool = True


_KEPT: Final = json.Decoder(KeptHit)
_KEPT_LIST: Final = json.Decoder(list[KeptHit])
_KEPT_COUNT: Final = json.Decoder(KeptCount)


def hits_of(
    enrollment: facts.Enrollment, stored: Iterable[facts.Achievement], hits: Iterable[facts.Hit]
) -> list[facts.Hit]:
    """Return each event once per goal, from its achievement if it has one, else from the first hit in this order."""
    found: dict[judging.HitKey, facts.Hit] = {}

    def add(goal_id: UUID, goal_version: int, trigger: facts.Trigger) -> None:
        hit = facts.Hit(
            enrollment.tenant_id, enrollment.workflow_id, enrollment.contact_id, goal_id, goal_version, trigger
        )
        found.setdefault((goal_id, trigger.source, trigger.id), hit)

    for achievement in stored:  # revoked ones too, so that a sweep of old hits never revokes an achievement
        add(achievement.goal_id, achievement.goal_version, achievement.trigger)
        if achievement.counted is not None:
            for goal_version, trigger in achievement.counted.hits:
                add(achievement.goal_id, goal_version, trigger)
    if enrollment.satisfied_by is not None:
        satisfying = _KEPT.decode(enrollment.satisfied_by)
        add(satisfying.goal_id, satisfying.goal_version, _trigger(satisfying))
    if enrollment.payments is not None:
        for payment in _KEPT_LIST.decode(enrollment.payments):
            add(payment.goal_id, payment.goal_version, _trigger(payment))
    for hit in hits:
        trigger = hit.trigger
        found.setdefault((hit.goal_id, trigger.source, trigger.id), hit)
    return list(found.values())


def counted_to_json(achievement: facts.Achievement) -> str | None:
    """Return the occurrences behind an achievement as they are kept, None for a goal that counts none."""
    counted = achievement.counted
    if counted is None:
        return None
    hits = [_kept(achievement.goal_id, version, trigger) for version, trigger in counted.hits]
    return json.encode(KeptCount(hits, counted.total_amount, counted.is_complete)).decode()


def counted_from_json(kept: str | None) -> facts.Counted | None:
    """Return the occurrences behind an achievement from what counted_to_json() returned."""
    if kept is None:
        return None
    found = _KEPT_COUNT.decode(kept)
    hits = tuple([(hit.goal_version, _trigger(hit)) for hit in found.hits])
    return facts.Counted(hits, found.total_amount, found.is_complete)


def satisfying(hit: facts.Hit) -> str:
    """Return the satisfying hit as it is kept where no achievement holds it."""
    return json.encode(_kept(hit.goal_id, hit.goal_version, hit.trigger)).decode()


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
    found = _payments(workflow, judgement)
    usual = {key for key in found if key[0] not in judgement.counted}
    found |= {key: hit for key, hit in _payments(workflow, unreversed).items() if key not in found}
    rows = [
        _kept(goal_id, version, trigger, occurrences.taken_back(trigger, reversals))
        for (goal_id, _, _), (version, trigger) in sorted(found.items())
    ]
    if found.keys() == usual and not any(row.reversed for row in rows):
        return None
    return json.encode(rows).decode() if rows else None


def _payments(
    workflow: goals.Workflow, judgement: judging.Judgement
) -> dict[judging.HitKey, tuple[int, facts.Trigger]]:
    found: dict[judging.HitKey, tuple[int, facts.Trigger]] = {}
    for hit in judgement.achieved:
        if workflow.goals_by_id[hit.goal_id].goal_type != "purchase_made":
            continue
        counted = judgement.counted.get(hit.goal_id)
        behind = ((hit.goal_version, hit.trigger),) if counted is None else counted.hits
        found |= {(hit.goal_id, trigger.source, trigger.id): (version, trigger) for version, trigger in behind}
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
