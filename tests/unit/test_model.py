"""Any order and any batching of messages gives the same answer as one judgement at the end."""

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from goalworker.domain import events
from tests.kit import naive_judge, strategies, world_messages, worlds
from tests.kit.examples import examples
from tests.unit import model

Delivery = list[list[events.Event]]


def _delivered(drawn: worlds.World, batches: Delivery, *, tracked: bool = True) -> model.Model:
    worker = model.Model(drawn.goals, drawn.logics, tracked=tracked)
    for batch in batches:
        worker.record(*batch)
    return worker


def _shuffled(drawn: worlds.World, seed: int) -> Delivery:
    """Return the messages in any order, some twice, in batches of any size."""
    source = random.Random(seed)
    arriving = [*drawn.messages, *source.sample(drawn.messages, min(3, len(drawn.messages)))]
    source.shuffle(arriving)
    batches: Delivery = [[]]
    for message in arriving:
        if source.random() < 0.3:
            batches.append([])
        batches[-1].append(message)
    return batches


def _naive(
    drawn: worlds.World, worker: model.Model, *, tracked: bool = True
) -> dict[naive_judge.EnrollmentKey, model.Answered]:
    """Return what the naive judge says of the enrollments that the worker knows."""
    answered = naive_judge.everything(drawn.goals, drawn.logics, drawn.messages, tracked=tracked)
    return {
        (enrolled.tenant_id, enrolled.enrollment_id): model.Answered(
            said.achieved,
            said.satisfied and said.satisfied.at.time,
            said.exit_waits and _may_exit(worker, enrolled),
            said.converted_at,
            said.payments,
        )
        for enrolled, said in answered.items()
        if (enrolled.tenant_id, enrolled.enrollment_id) in worker.enrollments
    }


def _may_exit(worker: model.Model, enrolled: naive_judge.Enrolled) -> bool:
    row = worker.enrollments[enrolled.tenant_id, enrolled.enrollment_id]
    return row.ended_at is None and row.exited_at is None


def check_world(seed: int, *, tracked: bool) -> None:
    """Assert that the naive judge agrees on a world, however its messages arrive."""
    drawn = world_messages.world(worlds.seeded(seed))
    drawn = drawn if tracked else drawn.untracked()
    worker = _delivered(drawn, _shuffled(drawn, seed), tracked=tracked)
    assert worker.answers() == _naive(drawn, worker, tracked=tracked), f"world {seed}, tracked: {tracked}"


@settings(max_examples=examples(300))
@given(seed=st.integers(0, 2**32), tracked=st.booleans())
def test_any_order_repetition_and_batching_gives_the_same_results(seed: int, tracked: bool) -> None:
    check_world(seed, tracked=tracked)


@given(data=st.data(), drawn=strategies.worlds())
def test_a_sweep_of_hits_changes_nothing(data: st.DataObject, drawn: worlds.World) -> None:
    worker = _delivered(drawn, data.draw(strategies.deliveries(drawn.messages)))
    before = worker.answers()
    worker.sweep()
    worker.judge_all()
    assert worker.answers() == before


@given(data=st.data(), drawn=strategies.worlds())
def test_a_replay_after_a_sweep_gives_the_same_results(data: st.DataObject, drawn: worlds.World) -> None:
    worker = _delivered(drawn, [list(drawn.messages)])
    before = worker.answers()
    worker.sweep()
    # At once: a part of it is judged without the facts that are swept (contract rule 3.6), such as founding events.
    worker.record(*itertools.chain(*data.draw(strategies.deliveries(drawn.messages))))
    assert worker.answers() == before


@given(drawn=strategies.worlds())
def test_one_tenants_messages_never_move_anothers_answer(drawn: worlds.World) -> None:
    everyone = _delivered(drawn, [list(drawn.messages)]).answers()
    north = [event for event in drawn.messages if event.tenant_id == "north"]
    alone = _delivered(drawn, [north]).answers()
    assert alone == {key: said for key, said in everyone.items() if key[0] == "north"}
