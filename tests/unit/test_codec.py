"""Packed workflows are unpacked unchanged."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from goalworker.domain import events, goals
from goalworker.domain.criteria import Criteria
from goalworker.goal_index import codec
from tests.kit import strategies
from tests.kit.strategies import at


@given(
    all_goals=strategies.goal_sets(events.GOAL_TYPES),
    logics=strategies.logic_versions(),
    created=st.none() | st.just(at(-9)),
)
def test_a_workflow_and_each_of_its_goals_come_out_as_they_went_in(
    all_goals: tuple[goals.Goal, ...], logics: tuple[goals.LogicVersion, ...], created: object
) -> None:
    changes = {"tenant_id": "north", "workflow_id": "w1"} | ({} if created is None else {"created_at": created})
    workflow = goals.Workflow(tuple(structs.replace(goal, **changes) for goal in all_goals), logics)
    packed = codec.pack(("north", "w1"), workflow.goals, workflow.logics)
    unpacked = codec.unpack(packed)
    assert unpacked == workflow
    assert str(unpacked) == str(workflow)  # 100 and 100.00 are equal
    for position, goal in enumerate(workflow.goals):
        assert str(codec.unpack_one(packed, position)) == str(goal)


@given(goal_type=st.sampled_from(events.GOAL_TYPES), data=st.data())
def test_a_goal_takes_less_than_128_bytes(goal_type: str, data: st.DataObject) -> None:
    version = goals.GoalVersion(1, data.draw(strategies.criteria(goal_type)), True, at(0))
    goal = goals.Goal("north", UUID(int=2**128 - 1), "w1", goal_type, at(0), (version,))
    assert len(codec.pack(("north", "w1"), [goal], ())) < 128


def test_the_longest_lists_come_out_as_they_went_in() -> None:
    ids = tuple(f"{number:02}{'ä' * 126}" for number in range(50))
    version = goals.GoalVersion(1, Criteria(pipeline_id=ids, stage_id=ids), True, at(0))
    goal = goals.Goal("north", UUID(int=1), "w1", "pipeline_stage_reached", at(0), (version,))
    assert codec.unpack_one(codec.pack(("north", "w1"), [goal], ()), 0) == goal


# Of lengths at which msgpack changes how it says them.
names = st.sampled_from(("", "w", "w1", "w\xe4", "w" * 31, "w" * 32, "w" * 255))


@given(one=st.tuples(names, names), other=st.tuples(names, names), logics=strategies.logic_versions())
def test_a_workflow_is_told_by_how_its_bytes_begin(
    one: tuple[str, str], other: tuple[str, str], logics: tuple[goals.LogicVersion, ...]
) -> None:
    assert codec.pack(one, (), logics).startswith(codec.prefix(other)) == (one == other)
