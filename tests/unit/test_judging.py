"""Contract section 3, rule by rule, and against a second implementation of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalworker.domain import criteria, facts, goals, judging
from goalworker.goal_index import index, matching
from tests.kit import naive_judge, world_messages, worlds
from tests.kit.examples import examples
from tests.kit.worlds import at
from tests.unit import model

ONE, TWO, THREE = UUID(int=1), UUID(int=2), UUID(int=3)
ALL = (goals.LogicVersion("all", at(-1)),)
NEVER = (goals.LogicVersion("never", at(-1)),)


# --- against the naive judge ---


class Case(NamedTuple):
    """One enrollment and everything that bears on it."""

    enrollment: facts.Enrollment
    hits: list[facts.Hit]
    reversals: list[facts.Reversal]
    workflow: goals.Workflow
    said: naive_judge.Answer


def _cases(seed: int) -> list[Case]:
    """Return the enrollments of a small world."""
    world = world_messages.world(worlds.seeded(seed))
    goal_index = index.Index()
    goal_index.replace(world.goals, world.logics, revision=1)
    hits = matching.all_hits(world.messages, goal_index)
    worker = model.Model(world.goals, world.logics)
    worker.record(*world.messages)
    found = []
    for enrolled, said in naive_judge.everything(world.goals, world.logics, world.messages).items():
        whose = (enrolled.tenant_id, enrolled.workflow_id, enrolled.contact_id)
        own = [hit for hit in hits if (hit.tenant_id, hit.workflow_id, hit.contact_id) == whose]
        enrollment = worker.enrollments[enrolled.tenant_id, enrolled.enrollment_id]
        reversals = worker.reversals_of(enrolled.tenant_id, enrolled.contact_id)
        workflow = goal_index.workflow(enrolled.tenant_id, enrolled.workflow_id)
        found.append(Case(enrollment, own, reversals, workflow, said))
    return found


def _judged(case: Case, hits: Sequence[facts.Hit]) -> judging.Judgement:
    return judging.judge(case.enrollment, hits, case.workflow, case.reversals)


@settings(max_examples=examples(200))
@given(seed=st.integers(0, 2**32))
def test_it_says_what_the_contract_says_when_read_naively(seed: int) -> None:
    for case in _cases(seed):
        judgement = _judged(case, case.hits)
        assert {hit.goal_id for hit in judgement.achieved} == case.said.achieved.keys()
        end, said = judgement.satisfaction, case.said.satisfied
        assert (end is None) == (said is None)
        if end is not None and said is not None:
            assert (end.hit.trigger.order, end.hit.goal_id, end.logic) == said
        order = [(hit.trigger.time, hit.goal_id) for hit in judgement.achieved]
        assert order == sorted(order)


@settings(max_examples=examples(100))
@given(seed=st.integers(0, 2**32), data=st.data())
def test_order_and_repetition_of_hits_change_nothing(seed: int, data: st.DataObject) -> None:
    for case in _cases(seed):
        again = data.draw(st.lists(st.sampled_from(case.hits), max_size=3)) if case.hits else []
        shuffled = data.draw(st.permutations([*case.hits, *again]))
        assert _judged(case, shuffled) == _judged(case, case.hits)


# --- rule by rule ---


def goal(goal_id: UUID, *lives: tuple[int, int | None, bool], created: int = -1, workflow_id: str = "w1") -> goals.Goal:
    """Return a form goal whose versions were in force from, to, and active or not; ticks."""
    versions = tuple(
        goals.GoalVersion(
            number, criteria.Criteria(form_id=f"f{goal_id.int}"), active, at(begin), None if end is None else at(end)
        )
        for number, (begin, end, active) in enumerate(lives or ((created, None, True),), start=1)
    )
    return goals.Goal("north", goal_id, workflow_id, "form_submitted", at(created), versions)


def hit(goal_id: UUID, tick: int, event_id: str = "1", source: str = "/crm") -> facts.Hit:
    """Return a hit of contact c1."""
    trigger = facts.Trigger(source, event_id, at(tick), b"{}")
    return facts.Hit("north", "w1", "c1", goal_id, 1, trigger)


def enrollment(enrolled: int | None = 0, ended: int | None = None) -> facts.Enrollment:
    """Return an enrollment of contact c1 in ticks."""
    enrolled_at, ended_at = (None if tick is None else at(tick) for tick in (enrolled, ended))
    return facts.Enrollment("north", "e1", "w1", "c1", enrolled_at, ended_at)


def said(
    hits: Sequence[facts.Hit],
    *all_goals: goals.Goal,
    logics: tuple[goals.LogicVersion, ...] = (),
    whose: facts.Enrollment | None = None,
) -> tuple[list[tuple[int, datetime]], tuple[int, datetime] | None]:
    """Judge, and return (goal, achieved_at) of the achievements and of the satisfying one."""
    workflow = goals.Workflow(all_goals or (goal(ONE), goal(TWO)), logics)
    judgement = judging.judge(whose or enrollment(), hits, workflow)
    end = judgement.satisfaction
    return (
        [(found.goal_id.int, found.trigger.time) for found in judgement.achieved],
        None if end is None else (end.hit.goal_id.int, end.hit.trigger.time),
    )


NOTHING: tuple[list[tuple[int, datetime]], None] = ([], None)


@pytest.mark.parametrize(
    ("window", "counts"),
    [
        (enrollment(6), True),
        (enrollment(7), False),
        (enrollment(4), True),
        (enrollment(0, 6), False),
        (enrollment(0, 7), True),
        (enrollment(6, 6), False),
        (enrollment(8, 2), False),
        (enrollment(None), False),
        (enrollment(None, 9), False),
    ],
)
def test_a_hit_counts_from_enrolled_at_inclusive_to_ended_at_exclusive(window: facts.Enrollment, counts: bool) -> None:
    assert said([hit(ONE, 6)], whose=window) == (([(1, at(6))], (1, at(6))) if counts else NOTHING)


def test_without_tracking_a_contact_is_enrolled_since_the_beginning_of_time() -> None:
    ancient = facts.Hit("north", "w1", "c1", ONE, 1, facts.Trigger("/crm", "1", facts.BEGINNING, b"{}"))
    always = goals.GoalVersion(1, criteria.Criteria(form_id="f1"), True, facts.BEGINNING)
    goal_ = goals.Goal("north", ONE, "w1", "form_submitted", facts.BEGINNING, (always,))
    judgement = judging.judge(enrollment(None), [ancient], goals.Workflow((goal_,)), tracked=False)
    assert judgement.achieved == (ancient,)


def test_any_stops_at_the_first_achievement() -> None:
    assert said([hit(ONE, 5), hit(TWO, 3)]) == ([(2, at(3))], (2, at(3)))


def test_before_anyone_sets_a_logic_it_is_any() -> None:
    later = (goals.LogicVersion("never", at(4)),)
    assert said([hit(ONE, 3)], logics=later) == ([(1, at(3))], (1, at(3)))
    assert said([hit(ONE, 4)], logics=later) == ([(1, at(4))], None)


def test_all_stops_when_every_goal_in_force_is_achieved() -> None:
    assert said([hit(ONE, 5)], logics=ALL) == ([(1, at(5))], None)
    assert said([hit(ONE, 5), hit(TWO, 7)], logics=ALL) == ([(1, at(5)), (2, at(7))], (2, at(7)))


def test_never_measures_every_goal_and_is_never_satisfied() -> None:
    assert said([hit(ONE, 5), hit(TWO, 7)], logics=NEVER) == ([(1, at(5)), (2, at(7))], None)


def test_only_the_first_hit_of_a_goal_achieves_it() -> None:
    assert said([hit(ONE, 7, "0"), hit(ONE, 5, "1")], logics=NEVER) == ([(1, at(5))], None)


def test_a_hit_of_an_achieved_goal_satisfies_where_the_logic_says_so_by_then() -> None:
    logics = (*NEVER, goals.LogicVersion("any", at(4)))
    assert said([hit(ONE, 3, "a"), hit(ONE, 5, "b")], logics=logics) == ([(1, at(3))], (1, at(5)))


def test_the_hit_after_a_deletion_satisfies_all() -> None:
    deleted = goal(TWO, (-1, 4, True))
    hits = [hit(ONE, 3, "a"), hit(ONE, 5, "b")]
    assert said(hits, goal(ONE), deleted, logics=ALL) == ([(1, at(3))], (1, at(5)))


def test_ties_in_time_are_walked_by_source_and_then_id_in_code_point_order() -> None:
    def first(*hits: facts.Hit) -> list[tuple[int, datetime]]:
        return said(hits)[0]

    assert first(hit(ONE, 5, "9"), hit(TWO, 5, "10")) == [(2, at(5))]
    assert first(hit(ONE, 5, "1", "/b"), hit(TWO, 5, "2", "/a")) == [(2, at(5))]
    assert first(hit(ONE, 5, "1", "/\U0001f600"), hit(TWO, 5, "2", "/\uff5e")) == [(2, at(5))]
    assert first(hit(ONE, 5, "1", "/a"), hit(TWO, 5, "2", "/Z")) == [(2, at(5))]


def test_two_goals_hit_by_one_event_are_both_achieved_and_the_oldest_completes() -> None:
    both = [hit(ONE, 5), hit(TWO, 5)]
    achieved = [(1, at(5)), (2, at(5))]
    assert said(both, goal(ONE, created=2), goal(TWO, created=1)) == (achieved, (2, at(5)))
    assert said(both, goal(ONE, created=2), goal(TWO, created=2)) == (achieved, (1, at(5)))


def test_the_completing_goal_is_one_that_the_last_event_achieved() -> None:
    older, newer = goal(ONE, created=-1), goal(TWO, created=2)
    hits = [hit(ONE, 3, "a"), hit(ONE, 5, "b"), hit(TWO, 5, "b")]
    assert said(hits, older, newer, logics=ALL)[1] == (2, at(5))


def test_a_goal_written_midway_is_part_of_all_from_then_on() -> None:
    late = goal(TWO, created=4)
    assert said([hit(ONE, 3)], goal(ONE), late, logics=ALL)[1] == (1, at(3))
    assert said([hit(ONE, 4)], goal(ONE), late, logics=ALL)[1] is None


def test_a_deletion_alone_never_satisfies() -> None:
    deleted = goal(TWO, (-1, 4, True))
    assert said([hit(ONE, 3)], goal(ONE), deleted, logics=ALL) == ([(1, at(3))], None)


def test_an_achievement_after_a_deletion_needs_only_what_is_left() -> None:
    deleted = goal(TWO, (-1, 4, True))
    assert said([hit(ONE, 4)], goal(ONE), deleted, logics=ALL)[1] == (1, at(4))
    hits = [hit(ONE, 3), hit(THREE, 5)]
    assert said(hits, goal(ONE), deleted, goal(THREE), logics=ALL)[1] == (3, at(5))


def test_a_paused_goal_is_not_asked_for_while_it_is_paused() -> None:
    paused = goal(TWO, (-1, 4, True), (4, 8, False), (8, None, True))
    assert [said([hit(ONE, tick)], goal(ONE), paused, logics=ALL)[1] is not None for tick in (3, 4, 7, 8)] == [
        False,
        True,
        True,
        False,
    ]


def test_the_logic_in_force_at_the_event_decides() -> None:
    logics = (*ALL, goals.LogicVersion("any", at(5)))
    hits = [hit(ONE, 3), hit(TWO, 6)]
    assert said(hits, goal(ONE), goal(TWO), goal(THREE), logics=logics) == ([(1, at(3)), (2, at(6))], (2, at(6)))


def test_hits_of_a_goal_that_is_not_the_workflows_are_left_out() -> None:
    assert said([hit(THREE, 2)]) == NOTHING
