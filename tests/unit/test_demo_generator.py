"""The outcomes that the demo's generator expects are those of a naive judge written from the contract."""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from goalworker.decoding import decoder
from goalworker.decoding.limits import Limits
from goalworker.decoding.skipping import Skipped
from goalworker.demo import generator, malformed, plans, records, tenant_setup
from goalworker.demo.scenario_builder import SPAN, ScenarioBuilder
from goalworker.domain import criteria_parsing, events, goals, ids
from tests.kit import naive_judge

README = Path(__file__).parents[2] / "README.md"
SINCE = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
NOW = SINCE + timedelta(seconds=90)
TENANTS = tenant_setup.tenant_names(3)
GOAL_IDS = {
    (tenant_id, goal.key): UUID(int=random.Random(f"{tenant_id}{goal.key}").getrandbits(128), version=4)
    for tenant_id in TENANTS
    for goal in tenant_setup.GOALS
}
STAGE = tenant_setup.TenantSetup(TENANTS, GOAL_IDS, SINCE)

DECODER = decoder.Decoder(records.TOPICS.event_types, Limits(max_bytes=malformed.MAX_BYTES))


def _decoded(record: plans.PlannedRecord) -> decoder.Outcome | None:
    timestamp_ms = record.timestamp_ms or int(NOW.timestamp() * 1000)
    return DECODER.decode(record.topic, record.value, record.headers, timestamp_ms, NOW)


def _goals() -> list[goals.Goal]:
    return [
        goals.Goal(
            tenant_id,
            GOAL_IDS[tenant_id, plan.key],
            plan.workflow_id,
            plan.goal_type,
            SINCE - timedelta(microseconds=len(tenant_setup.GOALS) - place),
            (
                goals.GoalVersion(
                    1,
                    criteria_parsing.parse_criteria(plan.goal_type, plan.criteria),
                    is_active=True,
                    active_from=SINCE - timedelta(microseconds=len(tenant_setup.GOALS) - place),
                ),
            ),
        )
        for tenant_id in TENANTS
        for place, plan in enumerate(tenant_setup.GOALS)
    ]


def _logics() -> naive_judge.Logics:
    return {
        (tenant_id, workflow_id): (goals.LogicVersion(logic, SINCE - timedelta(seconds=1)),)
        for tenant_id in TENANTS
        for workflow_id, logic in tenant_setup.LOGICS.items()
    }


GOALS, LOGICS = _goals(), _logics()


def _generator(seed: int = 1) -> generator.Generator:
    ticks = itertools.count()
    return generator.Generator(STAGE, seed, lambda: NOW - timedelta(seconds=60) + timedelta(milliseconds=next(ticks)))


def _steps(plan: plans.Step) -> Iterator[plans.Step]:
    step: plans.Step | None = plan
    while step is not None:
        yield step
        step = step.then


def _records(source: generator.Generator, count: int) -> list[plans.PlannedRecord]:
    return [record for _ in range(count) for step in _steps(source.next()) for record in step.records]


def _achievement(enrolled: naive_judge.Enrolled, goal_id: UUID, achieved: naive_judge.Achieved) -> plans.Achievement:
    at = achieved.at
    return plans.Achievement(
        *(enrolled.tenant_id, enrolled.enrollment_id, goal_id, at.time, at.source, at.id),
        occurrences=achieved.occurrences,
        total_amount=achieved.total_amount,
        evidence_complete=None if achieved.occurrences is None else achieved.evidence_complete,
    )


class _Worker:
    """A worker that judges after each record and remembers the exits that it sent."""

    def __init__(self) -> None:
        self.messages: list[events.Event] = []
        self.exits: dict[plans.EnrollmentKey, plans.Exit] = {}
        self.dead: list[plans.DeadLetter] = []
        self.revoked: set[naive_judge.AchievementKey] = set()
        self._achieved: set[naive_judge.AchievementKey] = set()
        self._owners: dict[plans.EnrollmentKey, tuple[str, str]] = {}

    def take(self, record: plans.PlannedRecord) -> None:
        event = _decoded(record)
        if isinstance(event, decoder.Malformed):
            self.dead.append(plans.DeadLetter(record.topic, record.key, event.reason))
        elif isinstance(event, events.Event) and self._conflicts(event):
            self.dead.append(plans.DeadLetter(record.topic, record.key, "conflicting_enrollment"))
        elif isinstance(event, events.Event):
            self.messages.append(event)
            self._judge()

    def revenue(self) -> dict[plans.RevenueKey, plans.Revenue]:
        answered = naive_judge.everything(GOALS, LOGICS, self.messages)
        return {
            (*workflow, currency): plans.Revenue(*sums)
            for workflow, money in naive_judge.workflow_revenue(answered).items()
            for currency, sums in money.items()
        }

    def achieved(self) -> set[plans.Achievement]:
        return {
            _achievement(enrolled, goal_id, found)
            for enrolled, answer in naive_judge.everything(GOALS, LOGICS, self.messages).items()
            for goal_id, found in answer.achieved.items()
        }

    def _conflicts(self, event: events.Event) -> bool:
        if not isinstance(event.data, events.EnrollmentChanged):
            return False
        subject = (event.data.workflow_id, event.data.contact_id)
        return self._owners.setdefault((event.tenant_id, event.data.enrollment_id), subject) != subject

    def _judge(self) -> None:
        answered = naive_judge.everything(GOALS, LOGICS, self.messages)
        achieved = {(*enrolled[:2], goal_id) for enrolled, answer in answered.items() for goal_id in answer.achieved}
        self.revoked |= self._achieved - achieved
        self._achieved = achieved
        for enrolled, answer in answered.items():
            key, satisfied = enrolled[:2], answer.satisfied
            if satisfied is None or answer.exit_waits or key in self.exits or self._has_end(key):
                continue
            own = sorted((achieved.at.time, goal) for goal, achieved in answer.achieved.items())
            self.exits[key] = plans.Exit(
                *enrolled,
                satisfied.logic,
                satisfied.goal_id,
                tuple(goal for _, goal in own),
                satisfied.at.time,
            )

    def _has_end(self, key: plans.EnrollmentKey) -> bool:
        return any(
            isinstance(event.data, events.EnrollmentChanged)
            and event.type == events.ENROLLMENT_ENDED
            and (event.tenant_id, event.data.enrollment_id) == key
            for event in self.messages
        )


SCENARIOS: list[Callable[[ScenarioBuilder], plans.Step]] = [
    *generator.WEIGHTS,
    *generator.ONCE,
]


def test_the_readme_explains_the_first_contact_who_just_missed_a_goal() -> None:
    source = _generator()
    source.opening()
    while source.near_miss is None:
        source.next()
    workflow_id, contact_id = source.near_miss.workflow_id, source.near_miss.contact_id
    assert source.near_miss.tenant_id == TENANTS[0]
    assert f"$W/{workflow_id}/explanations?contact_id={contact_id}" in README.read_text()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.unmeasured) for seed in range(1, 12))])
def test_the_outcome_is_that_of_the_contract_in_any_order_of_a_steps_records(
    scenario: Callable[[ScenarioBuilder], plans.Step], seed: int
) -> None:
    rng = random.Random(seed)
    plan = scenario(ScenarioBuilder(STAGE, TENANTS[seed % 3], seed + 15, NOW - timedelta(seconds=20), rng))
    worker = _Worker()
    for step in _generator().opening():
        for record in step.records:
            worker.take(record)
    for step in _steps(plan):
        for record in rng.sample(step.records, len(step.records)):
            worker.take(record)
        assert worker.achieved() == set(step.outcome.achieved)
        assert set(worker.exits.values()) == set(step.outcome.exited)
        assert Counter(worker.dead) == Counter(step.outcome.dead_letters)
        assert worker.revenue() == step.outcome.revenue()
        assert worker.revoked <= {(*each.key, each.goal_id) for each in step.outcome.revocable}


def test_a_step_that_waits_for_an_exit_has_exactly_one() -> None:
    source = _generator()
    waiting = [step for _ in range(500) for step in _steps(source.next()) if step.then and step.once == "exited"]
    assert waiting
    assert all(len(step.outcome.exited) == 1 for step in waiting)


def test_a_seed_repeats_its_traffic_and_another_seed_makes_other_traffic() -> None:
    assert _records(_generator(7), 400) == _records(_generator(7), 400)
    assert _records(_generator(7), 400) != _records(_generator(8), 400)


def test_an_exit_needs_its_enrollment_and_every_trigger() -> None:
    source = _generator()
    for plan in (source.next() for _ in range(500)):
        for command in plan.outcome.exited:
            decoded = [_decoded(record) for record in plan.records if command.key in record.needed_by]
            needed = [event for event in decoded if isinstance(event, events.Event)]
            assert len(needed) == len(decoded)
            found = {(event.source, event.id) for event in needed if event.type != events.ENROLLMENT_STARTED}
            assert found >= {(each.source, each.event_id) for each in plan.outcome.achieved if _of(command, each)}
            assert all(command.key not in _satisfied_without(one, plan.records) for one in found)
            assert any(event.type == events.ENROLLMENT_STARTED for event in needed)


def _satisfied_without(
    identity: tuple[str, str], sent: Sequence[plans.PlannedRecord]
) -> Mapping[plans.EnrollmentKey, naive_judge.Satisfied]:
    """Return who is satisfied after all of these records but an event, by its source and id."""
    decoded = [event for event in map(_decoded, sent) if isinstance(event, events.Event)]
    rest = [event for event in decoded if (event.source, event.id) != identity]
    return naive_judge.answers(GOALS, LOGICS, rest)[1]


def _of(command: plans.Exit, achieved: plans.Achievement) -> bool:
    return (achieved.tenant_id, achieved.enrollment_id) == command.key


def test_the_first_plans_contain_every_scenario_in_every_tenant() -> None:
    source = _generator()
    first = [source.next() for _ in range(len(SCENARIOS) * len(TENANTS) + len(malformed.SHAPES))]
    achieved = {
        (each.tenant_id, each.goal_id) for plan in first for step in _steps(plan) for each in step.outcome.achieved
    }
    keys = {goal.key for goal in tenant_setup.GOALS}
    assert achieved == {(tenant_id, GOAL_IDS[tenant_id, key]) for tenant_id in TENANTS for key in keys}
    assert {goal.goal_type for goal in tenant_setup.GOALS} == set(events.GOAL_TYPES)
    letters = {letter.reason for plan in first for step in _steps(plan) for letter in step.outcome.dead_letters}
    assert letters == {*REASONS, "conflicting_enrollment"}
    logics = {(command.tenant_id, command.logic) for plan in first for command in plan.outcome.exited}
    assert logics == {(tenant_id, logic) for tenant_id in TENANTS for logic in ("any", "all")}


REASONS = {
    "invalid_json",
    "invalid_envelope",
    "invalid_data",
    "unsupported_wire_format",
    "too_large",
    "future_time",
}


def test_the_traffic_has_every_form_of_record_and_every_reason_of_a_single_record() -> None:
    sent = _records(_generator(), 3_000)
    decoded = [_decoded(record) for record in sent]
    reasons = {each.reason for each in decoded if isinstance(each, decoder.Malformed)}
    assert reasons == REASONS
    shapes = Counter("ce_specversion" in dict(record.headers) for record in sent)
    assert min(shapes.values()) > len(sent) // 4
    assert any(record.timestamp_ms for record in sent)
    assert any(record.value is None for record in sent)
    assert {each.outcome for each in decoded if isinstance(each, Skipped)} == {"foreign_type", "test", "no_move"}
    good = Counter((event.tenant_id, event.source, event.id) for event in decoded if isinstance(event, events.Event))
    assert max(good.values()) > 1, "nothing is sent twice"


def test_every_malformed_record_has_its_expected_reason() -> None:
    source = _generator()
    steps = [step for _ in range(3_000) for step in _steps(source.next())]
    expected = {(each.topic, each.key): each.reason for step in steps for each in step.outcome.dead_letters}
    decoded = {(record.topic, record.key): _decoded(record) for step in steps for record in step.records}
    found = {at: decoded[at] for at, reason in expected.items() if reason != "conflicting_enrollment"}
    assert len(found) > 100
    differing = [each for at, each in found.items() if getattr(each, "reason", None) != expected[at]]
    assert differing == []


def test_dead_letters_stay_far_below_the_share_that_pauses_a_topic() -> None:
    by_topic: dict[str, list[bool]] = {}
    for record in _records(_generator(), 5_000):
        by_topic.setdefault(record.topic, []).append(isinstance(_decoded(record), decoder.Malformed))
    for dead in by_topic.values():
        assert all(sum(dead[start : start + 1000]) < 300 for start in range(0, len(dead), 100))


def test_no_valid_event_has_a_future_time() -> None:
    decoded = [_decoded(record) for record in _records(_generator(), 3_000)]
    assert all(event.time <= NOW for event in decoded if isinstance(event, events.Event))


@pytest.mark.parametrize("microsecond", [0, 1, 500_000, 949_999, 950_000, 999_999])
def test_no_event_is_at_a_whole_second_by_chance(microsecond: int) -> None:
    begins = SINCE.replace(microsecond=microsecond)
    moved = generator.within_a_second(begins)
    assert begins <= moved <= begins + SPAN + timedelta(milliseconds=1)
    assert moved.replace(microsecond=0) < moved < moved + SPAN < moved.replace(microsecond=0) + timedelta(seconds=1)


def test_every_dead_letter_has_a_unique_key() -> None:
    source = _generator()
    letters = [letter for _ in range(5_000) for letter in list(_steps(source.next()))[-1].outcome.dead_letters]
    assert len({letter.key for letter in letters}) == len(letters) > 0
    assert all(
        letter.key.startswith(tuple(f"{ids.joined(':', tenant)}:".encode() for tenant in TENANTS)) for letter in letters
    )


def test_tenant_names_are_distinct_and_carry_the_suffix_of_their_run() -> None:
    assert len(set(tenant_setup.tenant_names(20))) == 20
    assert tenant_setup.tenant_names(2, "-2") == ("acme-2", "globex-2")


def test_amounts_that_achieve_a_goal_have_two_decimals_at_most() -> None:
    source = _generator()
    steps = [step for _ in range(2_000) for step in _steps(source.next())]
    achieved = {(each.tenant_id, each.source, each.event_id) for step in steps for each in step.outcome.achieved}
    decoded = [_decoded(record) for step in steps for record in step.records]
    paid = [
        event.data.amount
        for event in decoded
        if isinstance(event, events.Event) and isinstance(event.data, events.PaymentCompleted)
        if (event.tenant_id, event.source, event.id) in achieved
    ]
    assert len(paid) > 50
    assert {amount for amount in paid if amount != round(amount, 2)} == set()
