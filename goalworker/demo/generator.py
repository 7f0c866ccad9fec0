"""Endless traffic of many contacts from a seed; its outcome is known by construction."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from goalworker.demo import corrections, malformed, occurrences, plans, reversals, scenarios, tenant_setup
from goalworker.demo.scenario_builder import SPAN, ScenarioBuilder
from goalworker.domain import events

Scenario = Callable[[ScenarioBuilder], plans.Step]

# Relative frequencies: most traffic of a tenant concerns no enrollment.
WEIGHTS: Final[dict[Scenario, int]] = {
    scenarios.stranger: 70,
    scenarios.passer_by: 50,
    malformed.malformed: 14,
    malformed.tombstone: 3,
    malformed.foreign_type: 3,
    **dict.fromkeys(
        (
            scenarios.tried_out,
            scenarios.other_form,
            scenarios.not_quite_bought,
            scenarios.not_quite_won,
            scenarios.too_early,
            scenarios.before_the_goal,
            scenarios.too_late,
            scenarios.ended_twice,
            scenarios.other_tenant,
            corrections.ended_before_all_along,
            corrections.earlier_hit_arrives,
            corrections.other_goal_was_first,
            corrections.hit_before_the_known_end,
            corrections.two_contacts_one_enrollment,
            occurrences.paid_once_told_twice,
            occurrences.stops_paying,
            occurrences.wins_one_of_two_deals,
            occurrences.enrolled_by_the_form,
            reversals.partly_refunded,
            reversals.refund_comes_first,
            reversals.debit_fails,
            reversals.call_cancelled,
            reversals.form_rejected,
            reversals.order_returned,
        ),
        2,
    ),
    **dict.fromkeys(
        (
            scenarios.signs_up,
            scenarios.enrolled_long_ago,
            scenarios.tagged_by_name,
            scenarios.tagged_by_id,
            scenarios.buys,
            scenarios.buys_for_two_goals,
            scenarios.in_two_workflows,
            scenarios.onboarded,
            scenarios.half_onboarded,
            scenarios.answers,
            scenarios.started_twice,
            scenarios.to_the_second,
            scenarios.workflow_paused,
            scenarios.workflow_reopened,
            corrections.ends_after_the_exit,
            corrections.enters_again,
            occurrences.orders_three_times,
            occurrences.pays_in_instalments,
            reversals.refunded,
            reversals.call_moved,
        ),
        4,
    ),
}

ONCE: Final[tuple[Scenario, ...]] = (
    corrections.workflow_was_paused_all_along,
    corrections.exit_waits_for_the_activation,
)
"""Scenarios that change a workflow of their own, which works only once a tenant."""

LOOK_BACK: Final = timedelta(seconds=30)
"""Maximal age of an event when it is sent; no event is older than the goals."""


class Generator:
    """Source of plans, one contact each; `clock` returns the time at which a plan is sent.

    `near_miss` is the first enrollment whose events just missed its goals, None until that was planned.
    """

    def __init__(self, setup: tenant_setup.TenantSetup, seed: int, clock: Callable[[], datetime]) -> None:
        self._setup = setup
        self._clock = clock
        self._rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._numbers: Counter[str] = Counter()
        self._first = self._one_of_each()
        self.near_miss: plans.Enrollment | None = None

    def opening(self) -> list[plans.Step]:
        """Return the steps that the worker must read first: they deactivate workflows for a while or for good."""
        since = self._setup.since
        steps = []
        for tenant_id in self._setup.tenants:
            builder = self._builder(tenant_id)
            pauses = (
                (events.WORKFLOW_DEACTIVATED, "paused", since),
                (events.WORKFLOW_DEACTIVATED, "reopened", since),
                (events.WORKFLOW_ACTIVATED, "reopened", since + tenant_setup.PAUSE),
            )
            steps.append(builder.shuffled(*(builder.workflow_changed(*pause) for pause in pauses)))
        return steps

    def next(self) -> plans.Step:
        """Return the plan of a new contact."""
        first = next(self._first, None)
        if first is not None:
            tenant_id, scenario = first
        else:
            tenant_id = self._rng.choice(self._setup.tenants)
            (scenario,) = self._rng.choices(_SCENARIOS, _WEIGHTS)
        step = scenario(self._builder(tenant_id))
        if scenario is scenarios.not_quite_bought and self.near_miss is None:
            (self.near_miss,) = step.enrollments
        return step

    def _one_of_each(self) -> Iterator[tuple[str, Scenario]]:
        for shape in malformed.SHAPES:
            yield self._setup.tenants[0], partial(malformed.in_shape, shape)
        for tenant_id in self._setup.tenants:
            for scenario in (*ONCE, *WEIGHTS):
                yield tenant_id, scenario

    def _builder(self, tenant_id: str) -> ScenarioBuilder:
        self._numbers[tenant_id] += 1
        earliest = self._setup.since + tenant_setup.PAUSE
        latest = self._clock() - 2 * SPAN
        begins = max(earliest, latest - self._rng.random() * min(LOOK_BACK, latest - earliest))
        if self._rng.random() < 0.25:
            begins = begins.replace(microsecond=begins.microsecond // 1000 * 1000) + timedelta(milliseconds=1)
        return ScenarioBuilder(self._setup, tenant_id, self._numbers[tenant_id], within_a_second(begins), self._rng)


def within_a_second(begins: datetime) -> datetime:
    """Return the first moment from which a scenario is over before the next second.

    An event at a whole second counts from the beginning of the second in which an enrollment starts (contract rule
    3.2), so that one by chance would change the outcome.
    """
    ends = begins + SPAN
    is_within = begins.microsecond > 0 and ends.second == begins.second
    return begins if is_within else ends.replace(microsecond=1_000)


_SCENARIOS: Final = tuple(WEIGHTS)
_WEIGHTS: Final = tuple(WEIGHTS.values())
