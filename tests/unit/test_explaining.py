"""Explanations agree with judging and matching in every world, and each reason comes up (contract section 7)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from goalworker.domain import clauses, explaining, facts, gates, goals, judging
from goalworker.domain.criteria import Criteria
from goalworker.domain.explanations import ContactFacts, Coverage, Explanation, Run
from goalworker.domain.sightings import hits_of, sightings_of
from goalworker.goal_index import index, matching
from tests.kit import contact_facts, world_messages, worlds
from tests.kit.examples import IS_QUICK, examples
from tests.unit import model

seeds = st.integers(0, 2**32)


def _known(seed: int, *, swept: bool = False, coverage: Coverage = contact_facts.COMPLETE) -> list[ContactFacts]:
    """Return the facts of every contact of a small world, after the worker has judged it."""
    world = world_messages.world(worlds.seeded(seed))
    worker = model.Model(world.goals, world.logics)
    worker.record(*world.messages)
    goal_index = index.Index()
    goal_index.replace(world.goals, world.logics, revision=1)
    hits = [] if swept else matching.all_hits(world.messages, goal_index)
    return contact_facts.of_world(world, _runs(worker, seed), hits, coverage)


def _runs(worker: model.Model, seed: int) -> Mapping[tuple[str, str], Run]:
    """Return the stored enrollments; every seventh world was backfilled without exits."""
    is_withheld = seed % 7 == 0
    return {
        key: Run(
            enrollment,
            list(worker.stored[key].values()),
            None if is_withheld else enrollment.exited_at,
            None,
            is_published=enrollment.exited_at is not None,
            is_withheld=is_withheld,
        )
        for key, enrollment in worker.enrollments.items()
    }


def _by_key(explained: Iterable[Explanation]) -> dict[tuple[str | None, object], Explanation]:
    return {(one.enrollment_id, one.goal_id): one for one in explained}


def _all(known: ContactFacts) -> list[Explanation]:
    return [one for goal in known.workflow.goals for one in explaining.explain(known, goal.goal_id)]


def _achieved(run: Run) -> set[object]:
    return {one.goal_id for one in run.achievements if not one.revoked}


@settings(max_examples=examples(200))
@given(seed=seeds, swept=st.booleans())
def test_the_answer_is_achieved_exactly_where_the_worker_says_so(seed: int, *, swept: bool) -> None:
    for known in _known(seed, swept=swept):
        found = _by_key(_all(known))
        for run in known.runs:
            achieved = {
                goal.goal_id
                for goal in known.workflow.goals
                if found[run.enrollment.enrollment_id, goal.goal_id].answer == gates.ACHIEVED
            }
            assert achieved == _achieved(run)


@settings(max_examples=examples(200))
@given(seed=seeds)
def test_clauses_and_gates_agree_with_matching(seed: int) -> None:
    for known in _known(seed):
        hits = {(*judging.hit_key(hit), hit.goal_version) for hit in known.hits}
        for explained in _all(known):
            for event in explained.events:
                is_hit = event.goal_version is not None and all(clause.result for clause in event.clauses)
                assert is_hit == ((explained.goal_id.int, event.source, event.id, event.goal_version) in hits)
                assert (event.stopped_at in (gates.VERSION_IN_FORCE, gates.CRITERIA)) == (not is_hit)


@settings(max_examples=examples(200))
@given(seed=seeds)
def test_gates_are_passed_up_to_the_furthest_one(seed: int) -> None:
    for known in _known(seed):
        for explained in _all(known):
            assert tuple(one.gate for one in explained.gates) == gates.GATES
            results = [one.result for one in explained.gates]
            if explained.answer == gates.ACHIEVED:
                assert all(results[: gates.GATES.index(gates.WORKFLOW_ACTIVE)])
                assert explained.furthest_gate is None
                assert any(event.stopped_at is None for event in explained.events)
            else:
                stop = gates.GATES.index(explained.furthest_gate or "")
                assert gates.GATE_OF[explained.reason] == explained.furthest_gate
                assert all(results[:stop])
                assert results[stop] is not True
                furthest = [gates.GATES.index(event.stopped_at or gates.GATES[-1]) for event in explained.events]
                assert explained.reason == gates.NOT_ENROLLED or max(furthest, default=1) == stop


@settings(max_examples=examples(200))
@given(seed=seeds)
@example(seed=2753)
@example(seed=5802)
def test_an_event_changed_as_proposed_achieves_the_goal(seed: int) -> None:
    for known in _known(seed):
        for explained in _all(known):
            for event in explained.events:
                if event.would_achieve_if:
                    changed = _changed(known, event.source, event.id, event.would_achieve_if)
                    again = explaining.explain(changed, explained.goal_id)
                    hit = _by_key(again)[explained.enrollment_id, explained.goal_id]
                    assert hit.answer in (gates.ACHIEVED, gates.UNKNOWN)


def _changed(known: ContactFacts, source: str, id_: str, changes: tuple[clauses.DataChange, ...]) -> ContactFacts:
    """Return the facts as they would be if one event had had other data, without what was judged of it.

    Goals that it hits with these data have its hit: a chain of appointments is another one without it.
    """
    happened = [
        structs.replace(event, data=clauses.with_changes(event.data, changes))  # type: ignore[arg-type]
        if (event.source, event.id) == (source, id_)
        else event
        for event in known.events
    ]
    changed = [event for event in happened if (event.source, event.id) == (source, id_)]
    hits = [hit for hit in known.hits if (hit.trigger.source, hit.trigger.id) != (source, id_)]
    hits += hits_of(known.workflow_id, {goal.goal_id: sightings_of(goal, changed) for goal in known.workflow.goals})
    return structs.replace(known, events=happened, hits=hits, runs=_forgotten(known.runs))


def _unjudged(enrollment: facts.Enrollment) -> facts.Enrollment:
    return structs.replace(enrollment, satisfied_by=None, payments=None)


def test_every_reason_is_produced_by_some_world() -> None:
    worlds_ = 60 if IS_QUICK else 200
    found = Counter(one.reason for seed in range(worlds_) for known in _known(seed) for one in _all(known))
    assert set(gates.REASONS) == found.keys()


UNSEEN = [structs.replace(contact_facts.COMPLETE, history_from=since) for since in (None, worlds.at(2))]


@pytest.mark.parametrize("coverage", UNSEEN)
def test_without_events_nothing_is_known_of_the_time_before_history(coverage: Coverage) -> None:
    found = 0
    for seed in range(20):
        for known in _known(seed, coverage=coverage):
            for one in explaining.explain(structs.replace(known, events=(), hits=(), runs=_forgotten(known.runs))):
                if one.reason == gates.NO_EVENT:
                    found += 1
                    (run,) = [run for run in known.runs if run.enrollment.enrollment_id == one.enrollment_id]
                    is_known = explaining.is_covered(known, run)
                    assert one.answer == (gates.NOT_ACHIEVED if is_known else gates.UNKNOWN)
                    assert one.gates[1].result is (False if is_known else None)
    assert found


def _forgotten(runs: Iterable[Run]) -> list[Run]:
    return [structs.replace(run, achievements=(), enrollment=_unjudged(run.enrollment)) for run in runs]


def test_a_goal_that_was_deleted_before_the_enrollment_is_explained_only_when_asked_for() -> None:
    criteria_ = Criteria(form_id="f1")
    old, new = (
        goals.Goal("north", UUID(int=number), "w1", "form_submitted", worlds.at(-3), (version,))
        for number, version in (
            (1, goals.GoalVersion(1, criteria_, True, worlds.at(-3), worlds.at(-2))),
            (2, goals.GoalVersion(1, criteria_, True, worlds.at(-3))),
        )
    )
    run = Run(facts.Enrollment("north", "e1", "w1", "c1", worlds.at(0)))
    known = ContactFacts(
        *("north", "w1", "c1"),
        goals.Workflow((old, new)),
        [run],
        [],
        [],
        [],
        [],
        contact_facts.COMPLETE,
        contact_facts.ASKED_AT,
    )
    assert [one.goal_id for one in explaining.explain(known)] == [new.goal_id]
    assert [one.goal_id for one in explaining.explain(known, old.goal_id)] == [old.goal_id]
    # What is achieved is explained in any case.
    trigger = facts.Trigger("/a", "h1", worlds.at(-3), b'{"contact_id": "c1", "form_id": "f1"}')
    achieved = facts.Achievement(UUID(int=1), 1, worlds.at(-3), trigger, 1)
    known = structs.replace(known, runs=[structs.replace(run, achievements=[achieved])])
    assert {one.goal_id for one in explaining.explain(known)} == {old.goal_id, new.goal_id}


def test_untracked_contacts_are_enrolled_since_the_beginning() -> None:
    found = set()
    for seed in range(20):
        world = world_messages.world(worlds.seeded(seed)).untracked()
        worker = model.Model(world.goals, world.logics, tracked=False)
        worker.record(*world.messages)
        goal_index = index.Index()
        goal_index.replace(world.goals, world.logics, revision=1)
        hits = matching.all_hits(world.messages, goal_index)
        for known in contact_facts.of_world(world, _runs(worker, seed), hits, tracked=False):
            for run in known.runs:
                achieved = {
                    one.goal_id
                    for one in _all(known)
                    if one.answer == gates.ACHIEVED and one.enrollment_id == run.enrollment.enrollment_id
                }
                assert achieved == _achieved(run)
                found |= achieved
    assert found
