"""The index finds what a look at every goal finds, however it came to know them."""

from collections.abc import Iterable
from decimal import Decimal
from unittest import mock
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from goalworker.domain import events, facts, goals
from goalworker.domain.criteria import Criteria
from goalworker.goal_index import codec, index, keys, matching
from tests.kit import naive_judge, strategies
from tests.kit.examples import examples
from tests.kit.strategies import at

any_type = st.sampled_from(events.GOAL_TYPES).map(lambda goal_type: (goal_type,)) | st.just(events.GOAL_TYPES)


@st.composite
def goals_and_events(draw: strategies.Draw) -> tuple[tuple[goals.Goal, ...], tuple[events.Event, ...]]:
    types = draw(any_type)
    return draw(strategies.goal_sets(types)), draw(strategies.contact_events(types, min_size=1))


def _index(all_goals: Iterable[goals.Goal], logics: naive_judge.Logics | None = None) -> index.Index:
    made = index.Index()
    made.replace(all_goals, logics or {}, revision=1)
    return made


@settings(max_examples=examples(200))
@given(drawn=goals_and_events())
def test_it_finds_what_a_look_at_every_goal_finds(
    drawn: tuple[tuple[goals.Goal, ...], tuple[events.Event, ...]],
) -> None:
    all_goals, happened = drawn
    made = _index(all_goals)
    for event in happened:
        found = [(hit.goal_id, hit.workflow_id, hit.goal_version) for hit in matching.hits(event, made)]
        assert found == sorted(
            (goal.goal_id, goal.workflow_id, version.number)
            for goal in all_goals
            if naive_judge.hits(event, goal) and (version := naive_judge.in_force(goal, event.time)) is not None
        )


Step = tuple[tuple[goals.Goal, ...], naive_judge.Logics]


@st.composite
def histories(draw: strategies.Draw, types: tuple[str, ...]) -> list[Step]:
    """Draw what comes in, step by step: goals that are new or again, each staying in its workflow and of its type."""
    identity = st.tuples(
        strategies.mostly(strategies.TENANTS), strategies.mostly(strategies.WORKFLOWS), strategies.mostly(types)
    )
    identities = draw(st.lists(identity, min_size=4, max_size=4))

    def goal(number: int) -> goals.Goal:
        tenant_id, workflow_id, goal_type = identities[number]
        life = draw(strategies.versions(goal_type))
        return goals.Goal(tenant_id, UUID(int=number), workflow_id, goal_type, life[0].active_from, life)

    steps = draw(st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=4))
    return [(tuple(map(goal, numbers)), draw(strategies.logic_maps())) for numbers in steps]


@settings(max_examples=examples(200))
@given(data=st.data(), types=any_type, page_goals=st.sampled_from((1, 2, 32)))
def test_step_by_step_it_holds_what_a_list_of_goals_holds(
    data: st.DataObject, types: tuple[str, ...], page_goals: int
) -> None:
    """The answers depend neither on searches between the steps nor on the number of goals on a page."""
    with mock.patch.object(index, "_PAGE_GOALS", page_goals):
        _hold_to_a_list(data, types)


def _hold_to_a_list(data: st.DataObject, types: tuple[str, ...]) -> None:
    happened = data.draw(strategies.contact_events(types, min_size=3))
    made, all_goals, logics = index.Index(), dict[UUID, goals.Goal](), dict[tuple[str, str], object]()
    finders = {event_type: made.finder(event_type) for event_type in events.DATA_OF_TYPE}
    for revision, (changed, new_logics) in enumerate(data.draw(histories(types)), start=1):
        made.replace(changed, new_logics, revision)
        all_goals |= {goal.goal_id: goal for goal in changed}
        logics |= new_logics
        assert (len(made), made.revision) == (len(all_goals), revision)
        for event in happened:
            candidates = made.candidates(event)
            assert finders[event.type](event.tenant_id, event.data) == candidates
            assert set(map(str, candidates)) >= {str(goal) for goal in all_goals.values() if _some_version(goal, event)}
            assert {goal.goal_id for goal in candidates} <= all_goals.keys()
        for place in ((tenant, workflow) for tenant in strategies.TENANTS for workflow in strategies.WORKFLOWS):
            workflow = made.workflow(*place)
            own = {goal.goal_id: goal for goal in all_goals.values() if (goal.tenant_id, goal.workflow_id) == place}
            assert {goal.goal_id: goal for goal in workflow.goals} == own
            assert (len(workflow.goals), workflow.logics) == (len(own), logics.get(place, ()))


def _some_version(goal: goals.Goal, event: events.Event) -> bool:
    return any(
        naive_judge.hits(structs.replace(event, time=version.active_from), goal)
        for version in goal.versions
        if version.active_from != version.active_to
    )


def test_goals_whose_hashes_collide_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (index, keys):
        monkeypatch.setattr(module, "hash", lambda _: 0, raising=False)
    tagged = goals.GoalVersion(1, Criteria(tag_id="f1"), True, at(0))
    goal_of_another_type = goals.Goal("north", UUID(int=3), "w2", "tag_added", at(0), (tagged,))
    goal_of_another_tenant = structs.replace(_form_goal(4, FIRST), tenant_id="south")
    all_goals = [_form_goal(1, FIRST), _form_goal(2, SECOND), goal_of_another_type, goal_of_another_tenant]
    made = _index(all_goals, {("south", "w1"): (goals.LogicVersion("all", at(0)),)})
    assert made.candidates(_submitted("f1", 0)) == (all_goals[0],)
    assert made.workflow("north", "w1") == goals.Workflow((all_goals[0], all_goals[1]))
    assert made.workflow("south", "w1").goals == (goal_of_another_tenant,)
    assert made.workflow("south", "w2") == goals.Workflow()


def test_a_key_that_very_many_goals_have_finds_them_all() -> None:
    all_goals = [_form_goal(number, FIRST, workflow_id=f"w{number // 3}") for number in range(3_000)]
    made = index.Index()
    for start in range(0, len(all_goals), 100):
        made.replace(all_goals[start : start + 100], {}, 1)
    assert sorted(made.candidates(_submitted("f1", 1)), key=lambda goal: goal.goal_id) == all_goals
    assert made.candidates(_submitted("f2", 1)) == ()


def test_a_workflow_with_very_many_goals_is_held_as_any_other() -> None:
    all_goals = {number: _form_goal(number, FIRST) for number in range(1_000)}
    made = _index([all_goals[number] for number in range(0, 1_000, 3)])
    made.replace(all_goals.values(), {("north", "w1"): (goals.LogicVersion("all", at(0)),)}, 2)
    for number in (0, 31, 32, 500, 999):
        all_goals[number] = _form_goal(number, FIRST, SECOND)
        made.replace([all_goals[number]], {}, 3)
    workflow = made.workflow("north", "w1")
    assert sorted(workflow.goals, key=lambda goal: goal.goal_id) == [*all_goals.values()]
    assert (len(made), [version.logic for version in workflow.logics]) == (1_000, ["all"])
    assert len(made.candidates(_submitted("f2", 6))) == 5


def test_more_workflows_than_are_kept_unpacked_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_UNPACKED_WORKFLOWS", 2)
    monkeypatch.setattr(keys, "_HOT_GOALS", 2)
    forms = {f"form-{number}": Criteria(form_id=f"form-{number}") for number in range(5)}
    all_goals = [
        _form_goal(number, goals.GoalVersion(1, criteria, True, at(0)), workflow_id=form_id)
        for number, (form_id, criteria) in enumerate(forms.items())
    ]
    made = _index(all_goals)
    for goal, form_id in zip(all_goals * 2, [*forms] * 2, strict=True):
        assert made.candidates(_submitted(form_id, 1)) == made.workflow("north", form_id).goals == (goal,)


def test_versions_that_ask_for_the_same_take_the_room_of_one() -> None:
    many, one = (keys.TypeIndex("form_submitted", mock.Mock()) for _ in range(2))
    for number in range(1_000):
        versions = [structs.replace(FIRST, number=each, criteria=Criteria(form_id=str(number))) for each in (1, 2)]
        many.add(_form_goal(number, *versions * 10), number)
        one.add(_form_goal(number, versions[0]), number)
    for made in (many, one):
        made.locations.settle()
    assert len(many.locations.sieve) == len(one.locations.sieve) < 4_000


@given(data=st.data(), types=any_type)
def test_another_tenants_goals_change_nothing(data: st.DataObject, types: tuple[str, ...]) -> None:
    all_goals = data.draw(strategies.goal_sets(types))
    own = [goal for goal in all_goals if goal.tenant_id == "north"]
    for event in data.draw(strategies.contact_events(types, ("north",), min_size=2)):
        assert matching.hits(event, _index(all_goals)) == matching.hits(event, _index(own))


def _form_goal(number: int, *versions: goals.GoalVersion, workflow_id: str = "w1") -> goals.Goal:
    goal_id = UUID(int=number)
    return goals.Goal("north", goal_id, workflow_id, "form_submitted", versions[0].active_from, versions)


def _submitted(form_id: str, tick: int) -> events.Event:
    return events.Event("north", "/crm", "1", "form.submitted", at(tick), events.FormSubmitted("c1", form_id))


FIRST = goals.GoalVersion(1, Criteria(form_id="f1"), True, at(0), at(5))
SECOND = goals.GoalVersion(2, Criteria(form_id="f2"), True, at(5))


def test_an_old_version_still_decides_old_events() -> None:
    made = _index([_form_goal(1, FIRST, SECOND)])
    hits = [
        (form_id, tick)
        for form_id in ("f1", "f2")
        for tick in (-1, 0, 4, 5)
        if matching.hits(_submitted(form_id, tick), made)
    ]
    assert hits == [("f1", 0), ("f1", 4), ("f2", 5)]


def test_a_changed_goal_is_held_once() -> None:
    made = _index([_form_goal(1, FIRST), _form_goal(2, FIRST)])
    made.replace([_form_goal(1, FIRST, SECOND)], {}, revision=2)
    assert sorted(goal.goal_id.int for goal in made.candidates(_submitted("f1", 1))) == [1, 2]
    assert len(made) == len(made.workflow("north", "w1").goals) == 2


def test_an_event_that_two_fields_lead_to_a_goal_hits_it_once() -> None:
    criteria = Criteria(tag_id="t1", tag_name="VIP")
    version = goals.GoalVersion(1, criteria, True, at(0))
    goal = goals.Goal("north", UUID(int=1), "w1", "tag_added", at(0), (version,))
    event = events.Event("north", "/crm", "1", "contact.tag.added", at(1), events.TagAdded("c1", "t1", "vip"))
    assert len(matching.hits(event, _index([goal]))) == 1


def test_a_goal_is_found_under_each_id_of_its_list() -> None:
    ids = tuple(f"{number:02}" for number in range(50))
    version = goals.GoalVersion(1, Criteria(form_id=ids), True, at(0))
    goal = _form_goal(1, version)
    made = _index([goal, _form_goal(2, FIRST)])
    assert [made.candidates(_submitted(form_id, 1)) for form_id in (*ids, "50")] == [(goal,)] * 50 + [()]
    made.replace([_form_goal(1, structs.replace(version, active_to=at(5)), SECOND)], {}, 2)
    found = [[hit.goal_version for hit in matching.hits(_submitted(*given), made)] for given in _LATER]
    assert found == [[1], [], [], [2]]


_LATER = (("49", 4), ("49", 5), ("f2", 4), ("f2", 5))


def test_a_payment_for_several_products_of_a_list_hits_its_goal_once() -> None:
    version = goals.GoalVersion(1, Criteria(product_id=("p1", "p2", "p3")), True, at(0))
    goal = goals.Goal("north", UUID(int=1), "w1", "purchase_made", at(0), (version,))
    paid = events.PaymentCompleted("c1", "pay-1", Decimal(1), "EUR", ("p3", "p9", "p1"))
    event = events.Event("north", "/shop", "1", "payment.completed", at(1), paid)
    assert [hit.goal_id for hit in matching.hits(event, _index([goal]))] == [goal.goal_id]


def test_a_payment_for_all_products_of_many_lists_unpacks_each_goal_once() -> None:
    products = tuple(f"{number:02}" for number in range(50))
    version = goals.GoalVersion(1, Criteria(product_id=products), True, at(0))
    all_goals = [
        goals.Goal("north", UUID(int=number), f"w{number}", "purchase_made", at(0), (version,)) for number in range(100)
    ]
    made = _index(all_goals)
    paid = events.PaymentCompleted("c1", "pay-1", Decimal(1), "EUR", products)
    with mock.patch.object(codec, "unpack_one", wraps=codec.unpack_one) as unpacked:
        assert made.finder("payment.completed")("north", paid) == tuple(all_goals)
    assert unpacked.call_count == 100
    assert made.finder("payment.completed")("south", paid) == ()


def test_a_hit_carries_the_events_tenant_contact_and_evidence() -> None:
    event = _submitted("f1", 3)
    (hit,) = matching.hits(event, _index([_form_goal(1, FIRST)]))
    assert hit == facts.Hit("north", "w1", "c1", UUID(int=1), 1, facts.trigger_of(event))


def test_lifecycle_messages_hit_nothing() -> None:
    changed = events.WorkflowChanged("w1")
    event = events.Event("north", "/engine", "1", events.WORKFLOW_ACTIVATED, at(1), changed)
    goal_index = _index([_form_goal(1, FIRST)])
    assert matching.hits(event, goal_index) == []
    assert goal_index.finder(event.type)(event.tenant_id, event.data) == ()


def test_an_unknown_workflow_has_no_goals_and_no_logic() -> None:
    assert _index([]).workflow("north", "nowhere") == goals.Workflow()


def test_a_product_that_comes_again_and_again_is_looked_up_once() -> None:
    goal = goals.Goal(
        "north", UUID(int=1), "w1", "purchase_made", at(0),
        (goals.GoalVersion(1, Criteria(product_id="p1"), True, at(0)),),
    )  # fmt: skip
    paid = events.PaymentCompleted("c1", "pay-1", Decimal(1), "EUR", ("p1", "p2") * 500)
    assert _index([goal]).finder("payment.completed")("north", paid) == (goal,)


def test_what_was_found_is_found_anew_where_a_goal_comes_to_it_or_leaves_it() -> None:
    one, other = _form_goal(1, FIRST), _form_goal(2, FIRST, workflow_id="w2")
    made = _index([one])
    assert made.candidates(_submitted("f1", 1)) == (one,)
    made.replace([other], {}, 2)
    assert set(made.candidates(_submitted("f1", 1))) == {one, other}
    changed = _form_goal(1, FIRST, SECOND)
    made.replace([changed], {}, 3)
    assert set(made.candidates(_submitted("f1", 1))) == {changed, other}
    assert made.candidates(_submitted("f2", 6)) == (changed,)


def test_what_was_found_a_while_ago_is_found_anew_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_HOT_GOALS", 2)
    made = _index([_form_goal(1, FIRST), _form_goal(2, SECOND, workflow_id="w2")])
    for form_id in ("f1", "f2"):
        assert len(made.candidates(_submitted(form_id, 6))) == 1
    made.replace([_form_goal(3, SECOND, workflow_id="w3"), _form_goal(4, FIRST, workflow_id="w4")], {}, 2)
    assert {goal.goal_id.int for goal in made.candidates(_submitted("f1", 1))} == {1, 4}


def test_a_goal_of_another_type_beside_one_that_takes_anything_is_not_found_with_it() -> None:
    kinds = {"tag_added": Criteria(tag_id="t1"), "purchase_made": Criteria()}
    all_goals = {
        goal_type: structs.replace(_form_goal(number, goals.GoalVersion(1, criteria, True, at(0))), goal_type=goal_type)
        for number, (goal_type, criteria) in enumerate(kinds.items())
    }
    paid = events.PaymentCompleted("c1", "pay-1", Decimal(1), "EUR")
    assert _index(all_goals.values()).finder("payment.completed")("north", paid) == (all_goals["purchase_made"],)
