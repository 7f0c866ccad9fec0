"""Tracing gives each hit a reason, which agrees with judging and with the facts (contract section 7)."""

from datetime import timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from goalworker.domain import facts, gates, goals, judging, tracing
from tests.kit.examples import IS_QUICK, examples
from tests.unit.test_judging import Case, _cases


def _traced(case: Case) -> tracing.Trace:
    return tracing.trace(tracing.Case(case.enrollment, case.workflow, case.hits, case.reversals))


def _enrolled(seed: int) -> list[Case]:
    return [case for case in _cases(seed) if case.enrollment.enrolled_at is not None]


@settings(max_examples=examples(200))
@given(seed=st.integers(0, 2**32))
def test_a_goal_is_achieved_where_one_of_its_hits_has_no_reason_against_it(seed: int) -> None:
    for case in _enrolled(seed):
        found = _traced(case)
        assert found.judgement == judging.judge(case.enrollment, case.hits, case.workflow, case.reversals)
        achieved = {hit.goal_id.int for hit in found.judgement.achieved}
        assert achieved == {key[0] for key, reason in found.reasons.items() if reason is None}
        assert {judging.hit_key(hit) for hit in case.hits} == found.reasons.keys()


@settings(max_examples=examples(200))
@given(seed=st.integers(0, 2**32))
@example(seed=1140384)  # a whole second counts, and a later report of it in that second lies before the enrollment
def test_reasons_of_the_window_are_true_of_the_facts(seed: int) -> None:
    for case in _enrolled(seed):
        reasons = _traced(case).reasons
        for hit in case.hits:
            reason = reasons[judging.hit_key(hit)]
            assert (reason == gates.BEFORE_ENROLLMENT) == _is_before(case.enrollment, hit)
            if reason == gates.AFTER_END:
                assert case.enrollment.ended_at is not None
                assert hit.trigger.time >= case.enrollment.ended_at
            elif reason == gates.AFTER_DEADLINE:
                seconds = goals.criteria_of(case.workflow.goals_by_id[hit.goal_id], hit.goal_version).deadline
                assert case.enrollment.enrolled_at is not None
                assert seconds is not None
                assert hit.trigger.time > case.enrollment.enrolled_at + timedelta(seconds=seconds)
            elif reason == gates.FOUNDING_EVENT:
                assert case.enrollment.started_by_id is not None
            elif reason == gates.REVERSED:
                assert any(reversal.time >= hit.trigger.time for reversal in case.reversals)


def _is_before(enrollment: facts.Enrollment, hit: facts.Hit) -> bool:
    began, time = enrollment.enrolled_at, hit.trigger.time
    assert began is not None
    return time < (began if time.microsecond else began.replace(microsecond=0))


def test_every_reason_of_a_hit_is_produced_by_some_world() -> None:
    worlds = 40 if IS_QUICK else 100
    found = {reason for seed in range(worlds) for case in _enrolled(seed) for reason in _traced(case).reasons.values()}
    assert found == {None, *gates.EVENT_REASONS} - {gates.GOAL_NOT_IN_FORCE, gates.CRITERIA_NOT_MET}
