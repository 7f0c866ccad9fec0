"""Any order and any batching of messages gives the same answer as one judgement at the end."""

from hypothesis import given, settings
from hypothesis import strategies as st

from goalworker.domain import events
from tests.kit import naive_judge, strategies
from tests.kit.examples import examples
from tests.unit import model

Delivery = list[list[events.Event]]


def _delivered(drawn: strategies.World, batches: Delivery, *, tracked: bool = True) -> model.Model:
    worker = model.Model(drawn.goals, drawn.logics, tracked=tracked)
    for batch in batches:
        worker.record(*batch)
    return worker


@settings(max_examples=examples(300))
@given(data=st.data(), drawn=strategies.worlds(), tracked=st.booleans())
def test_any_order_repetition_and_batching_gives_the_same_results(
    data: st.DataObject, drawn: strategies.World, tracked: bool
) -> None:
    batches = data.draw(strategies.deliveries(drawn.messages))
    worker = _delivered(drawn, batches, tracked=tracked)
    achieved, satisfied = naive_judge.answers(drawn.goals, drawn.logics, drawn.messages, tracked=tracked)
    assert worker.achievements() == achieved
    assert worker.satisfied() == satisfied


@given(data=st.data(), drawn=strategies.worlds(), tracked=st.booleans())
def test_neither_a_sweep_nor_a_replay_after_it_changes_the_answer(
    data: st.DataObject, drawn: strategies.World, tracked: bool
) -> None:
    worker = _delivered(drawn, [list(drawn.messages)], tracked=tracked)
    before = worker.achievements(), worker.satisfied()
    worker.sweep()
    for batch in data.draw(strategies.deliveries(drawn.messages)):
        worker.record(*batch)
        assert (worker.achievements(), worker.satisfied()) == before


@given(drawn=strategies.worlds())
def test_one_tenants_messages_never_move_anothers_answer(drawn: strategies.World) -> None:
    everyone = _delivered(drawn, [list(drawn.messages)]).achievements()
    north = [event for event in drawn.messages if event.tenant_id == "north"]
    alone = _delivered(drawn, [north]).achievements()
    assert alone == {key: evidence for key, evidence in everyone.items() if key[0] == "north"}
