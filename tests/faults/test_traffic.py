"""The naive judge says what the traffic and the small worlds expect, whichever records are read first."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from goalworker import config
from goalworker.decoding import decoder
from goalworker.decoding.limits import Limits
from goalworker.decoding.skipping import Skipped
from goalworker.domain import events, goals
from goalworker.stores import goal_store
from goalworker.stores.goal_store import drafts
from tests.faults import outcomes, small_worlds
from tests.faults.scenes import SCENES
from tests.faults.traffic import Traffic
from tests.kit import messages_in, naive_judge

TOPICS = config.load({}, env_file=None, secrets_dir=None).topics
DECODER = decoder.Decoder(TOPICS.event_types, Limits())
AT = datetime(2024, 5, 1, tzinfo=UTC)
NAMES = {scene.__name__: scene for scene in SCENES}


class Setup:
    """Client that keeps goals and logics in memory."""

    def __init__(self) -> None:
        self.goals: list[goals.Goal] = []
        self.logics: dict[tuple[str, str], tuple[goals.LogicVersion, ...]] = {}

    async def create_goal(self, workflow_id: str, goal_type: str, **criteria: object) -> goal_store.StoredGoal:
        draft = drafts.parse_draft({"goal_type": goal_type, "criteria": criteria})
        id_ = UUID(int=len(self.goals) + 1)
        version = goals.GoalVersion(1, draft.criteria, True, AT)
        self.goals.append(goals.Goal(messages_in.TENANT, id_, workflow_id, goal_type, AT, (version,)))
        return goal_store.StoredGoal(id_, workflow_id, goal_type, dict(criteria), None, True, 1, AT, "ann", AT, "ann")

    async def set_logic(self, workflow_id: str, logic: str) -> None:
        self.logics[messages_in.TENANT, workflow_id] = (goals.LogicVersion(logic, AT),)


@pytest.fixture
async def traffic() -> Traffic:
    return await Traffic.begin(Setup(), "test", 1)  # type: ignore[arg-type]  # nothing is sent


def decoded(traffic: Traffic) -> list[events.Event]:
    """Return what the worker makes of the planned records, without those that it skips."""
    found = []
    for record in traffic.unsent:
        event = DECODER.decode(getattr(TOPICS, record.topic), record.value, record.headers, 0, datetime.now(UTC))
        if not isinstance(event, Skipped):
            assert isinstance(event, events.Event), event
            found.append(event)
    return found


def judged(traffic: Traffic, messages: Sequence[events.Event]) -> Mapping[naive_judge.Enrolled, naive_judge.Answer]:
    setup: Setup = traffic.client  # type: ignore[assignment]
    return naive_judge.everything(setup.goals, setup.logics, messages)


def exits(answers: Mapping[naive_judge.Enrolled, naive_judge.Answer]) -> set[naive_judge.EnrollmentKey]:
    return {key[:2] for key, answer in answers.items() if answer.satisfied is not None and not answer.exit_waits}


@pytest.mark.parametrize("name", NAMES)
async def test_each_scene_has_the_outcome_that_the_naive_judge_says(name: str, traffic: Traffic) -> None:
    for _ in range(10):
        NAMES[name](traffic)
    messages, expected = decoded(traffic), traffic.expected
    answers = judged(traffic, messages)
    ended = {(event.tenant_id, _run(event)) for event in messages if event.type == events.ENROLLMENT_ENDED}
    satisfied = {key[:2]: answer.satisfied for key, answer in answers.items() if answer.satisfied is not None}
    assert expected.achieved == {
        (*key[:2], goal_id): found for key, answer in answers.items() for goal_id, found in answer.achieved.items()
    }
    assert expected.satisfied == {key: found.at.time for key, found in satisfied.items()}
    assert expected.converted == {
        key[:2]: answer.converted_at for key, answer in answers.items() if answer.converted_at is not None
    }
    assert expected.payments == {
        (*key[:2], goal_id, payment_id): payment
        for key, answer in answers.items()
        for goal_id, payments in answer.payments.items()
        for payment_id, payment in payments.items()
    }
    assert expected.exits == exits(answers) - ended
    assert expected.waiting == satisfied.keys() - exits(answers) - ended


def _run(event: events.Event) -> str:
    return str(getattr(event.data, "enrollment_id", ""))


@pytest.mark.parametrize("name", NAMES)
async def test_each_scene_allows_whatever_its_first_records_lead_to(name: str, traffic: Traffic) -> None:
    NAMES[name](traffic)
    for _ in range(20):
        traffic.chance.shuffle(traffic.unsent)
        messages = decoded(traffic)
        _check_parts(traffic.expected, [judged(traffic, messages[:number]) for number in range(len(messages) + 1)])


@pytest.mark.parametrize("number", range(60))
def test_a_small_world_allows_whatever_its_first_messages_lead_to(number: int) -> None:
    world, expected = small_worlds.drawn(number + 1, seed=1)[number], outcomes.Expected()
    small_worlds.expect(expected, world)
    messages = list(world.messages)
    random.Random(number).shuffle(messages)
    parts = [
        naive_judge.everything(world.goals, world.logics, messages[:number]) for number in range(len(messages) + 1)
    ]
    _check_parts(expected, parts)


def _check_parts(
    expected: outcomes.Expected, parts: Sequence[Mapping[naive_judge.Enrolled, naive_judge.Answer]]
) -> None:
    before: set[naive_judge.AchievementKey] = set()
    for answers in parts:
        assert exits(answers) <= expected.exits | expected.may_exit | expected.waiting
        achieved = {(*key[:2], goal_id) for key, answer in answers.items() for goal_id in answer.achieved}
        assert before - achieved <= expected.may_be_revoked.keys()
        before = achieved
    assert before == expected.achieved.keys()


async def test_the_records_of_a_small_world_say_what_its_messages_say(traffic: Traffic) -> None:
    for world in small_worlds.drawn(20, seed=1):
        traffic.unsent.clear()
        small_worlds.plan(traffic, world)
        assert set(decoded(traffic)) == set(world.messages)


def test_a_small_world_keeps_its_outcome_when_it_gets_tenants_of_its_own() -> None:
    own, other = (small_worlds.drawn(2, seed=1)[number] for number in (0, 1))
    assert not {goal.tenant_id for goal in own.goals} & {goal.tenant_id for goal in other.goals}
    ago = datetime.now(UTC) - min(message.time for message in own.messages)
    assert small_worlds.AGO - timedelta(minutes=1) < ago < small_worlds.AGO + timedelta(minutes=1)
