"""The index finds what a look at every goal finds, however it came to know them."""

from collections.abc import Iterable, Mapping
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from goalworker import events, goals, index, match
from tests.unit import naive_judge, strategies
from tests.unit.strategies import at

any_type = st.sampled_from(events.GOAL_TYPES).map(lambda goal_type: (goal_type,)) | st.just(events.GOAL_TYPES)


@st.composite
def goals_and_events(draw: strategies.Draw) -> tuple[tuple[goals.Goal, ...], tuple[events.Event, ...]]:
    types = draw(any_type)
    return draw(strategies.goal_sets(types)), draw(strategies.contact_events(types, min_size=1))


def _index(known: Iterable[goals.Goal], logics: naive_judge.Logics | None = None) -> index.Index:
    made = index.Index()
    made.replace(known, logics or {}, revision=1)
    return made


@settings(max_examples=200)
@given(drawn=goals_and_events())
def test_it_finds_what_a_look_at_every_goal_finds(
    drawn: tuple[tuple[goals.Goal, ...], tuple[events.Event, ...]],
) -> None:
    known, happened = drawn
    made = _index(known)
    for event in happened:
        found = [(hit.goal_id, hit.workflow_id, hit.goal_version) for hit in match.hits(event, made)]
        assert found == sorted(
            (goal.goal_id, goal.workflow_id, version.number)
            for goal in known
            if naive_judge.hits(event, goal) and (version := naive_judge.in_force(goal, event.time)) is not None
        )


@given(data=st.data(), old=any_type.flatmap(strategies.goal_sets), types=any_type)
def test_replacing_goals_gives_the_index_that_is_built_anew(
    data: st.DataObject, old: tuple[goals.Goal, ...], types: tuple[str, ...]
) -> None:
    """Goals here may even change tenant, workflow and type; what is there less must be no more."""
    new = data.draw(strategies.goal_sets(types))
    old_logics, new_logics = data.draw(strategies.logic_maps()), data.draw(strategies.logic_maps())
    happened = data.draw(strategies.contact_events(events.GOAL_TYPES, min_size=3))
    replaced = _index(old, old_logics)
    replaced.replace(new, new_logics, revision=2)
    now = {goal.goal_id: goal for goal in (*old, *new)}
    anew = _index(now.values(), {**old_logics, **new_logics})
    assert (len(replaced), replaced.revision) == (len(now), 2)
    assert match.all_hits(happened, replaced) == match.all_hits(happened, anew)
    assert _workflows(replaced) == _workflows(anew)


def _workflows(made: index.Index) -> Mapping[tuple[str, str], object]:
    keys = [(tenant_id, workflow_id) for tenant_id in strategies.TENANTS for workflow_id in strategies.WORKFLOWS]
    workflows = {key: made.workflow(*key) for key in keys}
    return {
        key: (sorted(goal.goal_id for goal in workflow.goals), set(map(str, workflow.goals)), workflow.logics)
        for key, workflow in workflows.items()
    }


@given(data=st.data(), types=any_type)
def test_another_tenants_goals_change_nothing(data: st.DataObject, types: tuple[str, ...]) -> None:
    known = data.draw(strategies.goal_sets(types))
    own = [goal for goal in known if goal.tenant_id == "north"]
    for event in data.draw(strategies.contact_events(types, ("north",), min_size=2)):
        assert match.hits(event, _index(known)) == match.hits(event, _index(own))


def _form_goal(number: int, *versions: goals.GoalVersion) -> goals.Goal:
    goal_id = UUID(int=number)
    return goals.Goal("north", goal_id, "w1", "form_submitted", versions[0].active_from, versions)


def _submitted(form_id: str, tick: int) -> events.Event:
    return events.Event("north", "/crm", "1", "form.submitted", at(tick), events.FormSubmitted("c1", form_id))


FIRST = goals.GoalVersion(1, goals.Criteria(form_id="f1"), True, at(0), at(5))
SECOND = goals.GoalVersion(2, goals.Criteria(form_id="f2"), True, at(5))


def test_an_old_version_still_decides_old_events() -> None:
    made = _index([_form_goal(1, FIRST, SECOND)])
    hits = [
        (form_id, tick)
        for form_id in ("f1", "f2")
        for tick in (-1, 0, 4, 5)
        if match.hits(_submitted(form_id, tick), made)
    ]
    assert hits == [("f1", 0), ("f1", 4), ("f2", 5)]


def test_a_changed_goal_is_held_once() -> None:
    made = _index([_form_goal(1, FIRST), _form_goal(2, FIRST)])
    made.replace([_form_goal(1, FIRST, SECOND)], {}, revision=2)
    assert [goal.goal_id.int for goal in made.candidates(_submitted("f1", 1))] == [2, 1]
    assert len(made) == len(made.workflow("north", "w1").goals) == 2


def test_an_event_that_two_fields_lead_to_a_goal_hits_it_once() -> None:
    criteria = goals.Criteria(tag_id="t1", tag_name="VIP")
    version = goals.GoalVersion(1, criteria, True, at(0))
    known = goals.Goal("north", UUID(int=1), "w1", "tag_added", at(0), (version,))
    event = events.Event("north", "/crm", "1", "contact.tag.added", at(1), events.TagAdded("c1", "t1", "vip"))
    assert len(match.hits(event, _index([known]))) == 1


def test_a_hit_carries_the_events_tenant_contact_and_evidence() -> None:
    event = _submitted("f1", 3)
    (hit,) = match.hits(event, _index([_form_goal(1, FIRST)]))
    assert hit == events.Hit("north", "w1", "c1", UUID(int=1), 1, events.trigger_of(event))


def test_lifecycle_messages_hit_nothing() -> None:
    changed = events.WorkflowChanged("w1")
    event = events.Event("north", "/engine", "1", events.WORKFLOW_ACTIVATED, at(1), changed)
    assert match.hits(event, _index([_form_goal(1, FIRST)])) == []


def test_an_unknown_workflow_has_no_goals_and_no_logic() -> None:
    assert _index([]).workflow("north", "nowhere") == goals.Workflow()
