"""Tally of a plan: judgements of enrollments by the planned goals, beside the achievements that are stored."""

import statistics
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from goalworker.domain import events, evidence, facts, goals, judging, near_misses, occurrences, planning, revenue

_SECONDS_PER_HOUR: Final = 3600

Match = Callable[[events.Event], Sequence[facts.Hit]]
"""Returns the hits of an event by the planned goals."""


class Contact(Struct, frozen=True):
    """A contact in the workflow: its enrollments and facts, each event once, and what is stored of each enrollment.

    `kept` are the kept events; `evidence` are events that are not, but that stored achievements rest on.
    """

    enrollments: Sequence[facts.Enrollment]
    kept: Sequence[events.Event] = ()
    evidence: Sequence[events.Event] = ()
    reversals: Sequence[facts.Reversal] = ()
    stored: Mapping[str, Sequence[facts.Achievement]] = {}


class OfGoal(Struct, frozen=True, omit_defaults=True):
    """A planned goal: how many enrollments achieve it, of these how many do not now, and how many nothing else."""

    matched_events: int
    would_achieve: int
    more: int
    only_by_this: int
    first_at: datetime | None
    median_hours: float | None
    near_misses: tuple[near_misses.NearMiss, ...]
    goal_id: UUID | UnsetType = UNSET
    index: int | UnsetType = UNSET


class Compared(Struct, frozen=True):
    """Achievements by the planned goals and the stored ones; of those that are both, how many are at another time."""

    both: int
    only_planned: int
    only_live: int
    earlier: int
    later: int


class Tallied(Struct, frozen=True):
    """The result of a plan, as far as enrollments and events say it."""

    enrollments: int
    events: int
    per_goal: tuple[OfGoal, ...]
    would_exit: int
    compared: Compared
    revenue: revenue.Revenue


class _GoalTally:
    """Counters of one planned goal."""

    def __init__(self, goal: goals.Goal) -> None:
        self.goal = goal
        self.matched_events = self.achieved = self.more = self.only_by_this = 0
        self.first_at: datetime | None = None
        self.hours = array("d")
        self._near_misses = near_misses.NearMisses()

    def add_other(self, event: events.Event) -> None:
        """Count an event of the goal's type that did not hit it."""
        version = goals.version_at(self.goal, event.time)
        if version is not None and isinstance(event.data, events.GoalData):
            self._near_misses.add(version.criteria, event.data)

    def add_achievement(self, achieved_at: datetime, enrolled_at: datetime | None) -> None:
        """Count an achievement."""
        self.achieved += 1
        self.first_at = achieved_at if self.first_at is None else min(self.first_at, achieved_at)
        if enrolled_at is not None:
            self.hours.append(max((achieved_at - enrolled_at).total_seconds(), 0) / _SECONDS_PER_HOUR)

    def result(self, index: int | None) -> OfGoal:
        """Return the counts in the form of the contract."""
        return OfGoal(
            self.matched_events,
            self.achieved,
            self.more,
            self.only_by_this,
            self.first_at,
            round(statistics.median(self.hours), 2) if self.hours else None,
            self._near_misses.result(),
            goal_id=self.goal.goal_id if index is None else UNSET,
            index=UNSET if index is None else index,
        )


class Tally:
    """Judge contact by contact by a planned workflow; states are those of the workflow, sorted by their time."""

    def __init__(
        self,
        planned: planning.Planned,
        match: Match,
        states: Sequence[facts.WorkflowState] = (),
        *,
        tracking: bool = True,
    ) -> None:
        self._workflow, self._index_of = planned.workflow, planned.index_of
        self._match, self._states, self._tracking = match, states, tracking
        self._goals = {goal.goal_id: _GoalTally(goal) for goal in planned.workflow.goals}
        self._goals_of_type: defaultdict[str, list[_GoalTally]] = defaultdict(list)
        for of_goal in self._goals.values():
            self._goals_of_type[events.GOAL_TYPE_TABLE[of_goal.goal.goal_type].event_type].append(of_goal)
        self._enrollments = self._events = self._exits = 0
        self._both = self._only_planned = self._only_live = self._earlier = self._later = 0
        self._has_purchases = any(goal.goal_type == "purchase_made" for goal in planned.workflow.goals)
        self._revenue = revenue.Totals()

    def add(self, contact: Contact) -> None:
        """Judge a contact's enrollments, and add what they achieve."""
        self._enrollments += len(contact.enrollments)
        self._events += len(contact.kept)
        hits = [hit for event in contact.kept for hit in self._hits(event)]
        hits += [hit for event in contact.evidence for hit in self._match(event)]
        if not hits and not contact.stored:
            return
        paid: dict[str, tuple[facts.Hit, Decimal]] = {}
        for enrollment in contact.enrollments:
            judgement = judging.judge(enrollment, hits, self._workflow, contact.reversals, tracked=self._tracking)
            self._compare(enrollment, judgement, contact.stored.get(enrollment.enrollment_id, ()))
            if judgement.satisfaction is not None and self._may_exit(enrollment, judgement.satisfaction):
                self._exits += 1
            self._note_payments(enrollment, judgement, hits, contact.reversals, paid)
        for hit, taken_back in paid.values():
            details = occurrences.details_of(hit.trigger.data)
            self._revenue.add((details.currency or "").upper(), details.amount or Decimal(0), taken_back)

    def result(self) -> Tallied:
        """Return what the contacts came to; goals that were deleted before are left out where nobody achieves them."""
        shown = [one for one in self._goals.values() if one.achieved or one.goal.versions[-1].active_to is None]
        return Tallied(
            self._enrollments,
            self._events,
            tuple(one.result(self._index_of.get(one.goal.goal_id)) for one in shown),
            self._exits,
            Compared(self._both, self._only_planned, self._only_live, self._earlier, self._later),
            self._revenue.result(),
        )

    def _hits(self, event: events.Event) -> Sequence[facts.Hit]:
        of_type = self._goals_of_type.get(event.type)
        if of_type is None:
            return ()
        hits = self._match(event)
        hit_goals = [hit.goal_id for hit in hits]
        for of_goal in of_type:
            if of_goal.goal.goal_id in hit_goals:
                of_goal.matched_events += 1
            else:
                of_goal.add_other(event)
        return hits

    def _compare(
        self, enrollment: facts.Enrollment, judgement: judging.Judgement, stored: Iterable[facts.Achievement]
    ) -> None:
        live = {one.goal_id: one.trigger.time for one in stored if not one.revoked}
        achieved = judgement.achieved
        is_converted_now = bool(live)
        for hit in achieved:
            of_goal, time = self._goals[hit.goal_id], hit.trigger.time
            of_goal.add_achievement(time, enrollment.enrolled_at)
            before = live.pop(hit.goal_id, None)
            if before is None:
                self._only_planned += 1
                of_goal.more += 1
                of_goal.only_by_this += not is_converted_now and len(achieved) == 1
            else:
                self._both += 1
                self._earlier += time < before
                self._later += time > before
        self._only_live += len(live)

    def _may_exit(self, enrollment: facts.Enrollment, satisfaction: judging.Satisfaction) -> bool:
        return enrollment.ended_at is None and not judging.waits(self._states, satisfaction.hit.trigger.time)

    def _note_payments(
        self,
        enrollment: facts.Enrollment,
        judgement: judging.Judgement,
        hits: Sequence[facts.Hit],
        reversals: Sequence[facts.Reversal],
        paid: dict[str, tuple[facts.Hit, Decimal]],
    ) -> None:
        """Add the payments of an enrollment that are revenue; of one payment, its earliest event stands."""
        if not self._has_purchases or not (judgement.achieved or reversals):
            return
        unreversed = judgement
        if reversals:
            unreversed = judging.judge(enrollment, hits, self._workflow, tracked=self._tracking)
        of_payment = occurrences.by_subject(reversals)
        for hit in evidence.revenue_hits(self._workflow, judgement, unreversed).values():
            payment_id = occurrences.details_of(hit.trigger.data).payment_id or ""
            known = paid.get(payment_id)
            if known is None or hit.trigger.order < known[0].trigger.order:
                paid[payment_id] = (hit, occurrences.taken_back(hit.trigger, of_payment))
