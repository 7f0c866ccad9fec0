"""Tallies of plans: near misses, conversions and their times."""

from datetime import timedelta
from decimal import Decimal
from functools import partial
from uuid import UUID

from goalworker.domain import events, facts, goals, near_misses, plan_tally, planning
from goalworker.domain.criteria import Criteria
from goalworker.goal_index import index, matching
from tests.kit.choices import at

KEY = ("north", "w1")
PAID_50 = planning.NewGoal("purchase_made", Criteria(min_amount=Decimal(50), currency="EUR"))


def _event(number: int, contact_id: str, amount: str, currency: str = "EUR", tick: int = 1) -> events.Event:
    data = events.PaymentCompleted(contact_id, f"pay-{number}", Decimal(amount), currency)
    return events.Event("north", "/shop", str(number), "payment.completed", at(tick), data)


def _enrollment(contact_id: str) -> facts.Enrollment:
    return facts.Enrollment("north", f"e-{contact_id}", "w1", contact_id, at(0))


def _tally(*contacts: plan_tally.Contact, workflow: goals.Workflow | None = None) -> plan_tally.Tallied:
    planned = planning.planned(KEY, workflow or goals.Workflow(), planning.Proposal((PAID_50,)), at(0))
    of_plan = index.Index()
    of_plan.replace(planned.workflow.goals, {}, revision=1)
    tally = plan_tally.Tally(planned, partial(matching.hits, goal_index=of_plan))
    for contact in contacts:
        tally.add(contact)
    return tally.result()


def _contact(contact_id: str, *kept: events.Event) -> plan_tally.Contact:
    return plan_tally.Contact([_enrollment(contact_id)], kept)


def test_the_example_of_amounts_that_were_too_small_is_the_nearest_one() -> None:
    result = _tally(
        _contact("c1", _event(1, "c1", "49.90"), _event(2, "c1", "1000", "USD")),
        _contact("c2", _event(3, "c2", "12")),
        _contact("c3", _event(4, "c3", "49.9"), _event(5, "c3", "3", "USD")),
    )
    (of_goal,) = result.per_goal
    assert of_goal.near_misses == (
        near_misses.NearMiss("/min_amount", 3, near_misses.Example("49.90", ("c1", "c3"))),
        near_misses.NearMiss("/currency", 1, near_misses.Example("USD", ("c1",))),
    )
    assert (of_goal.index, of_goal.matched_events, of_goal.would_achieve) == (0, 0, 0)


def test_an_example_names_at_most_twenty_contacts() -> None:
    result = _tally(*[_contact(f"c{n}", _event(n, f"c{n}", "49")) for n in range(30)])
    (near,) = result.per_goal[0].near_misses
    assert near.count == 30
    assert len(near.example.contact_ids) == near_misses.CONTACTS_MAX == 20


def test_the_example_of_other_criteria_is_the_most_frequent_value() -> None:
    counted = near_misses.NearMisses()
    for form_id in ("frm-11", "frm-12", "frm-12"):
        counted.add(Criteria(form_id="frm_12"), events.FormSubmitted("c1", form_id))
    assert counted.result() == (near_misses.NearMiss("/form_id", 3, near_misses.Example("frm-12", ("c1",))),)


def test_values_beyond_the_limit_are_counted_without_being_kept() -> None:
    counted = near_misses.NearMisses()
    for number in range(1_500):
        counted.add(Criteria(form_id="frm"), events.FormSubmitted("c1", f"f{number}"))
    counted.add(Criteria(form_id="frm"), events.FormSubmitted("c2", "f7"))
    assert counted.result() == (near_misses.NearMiss("/form_id", 1_501, near_misses.Example("f7", ("c1", "c2"))),)


def test_times_to_goal_and_the_first_achievement_are_those_of_the_plan() -> None:
    result = _tally(
        _contact("c1", _event(1, "c1", "50", tick=3)), _contact("c2", _event(2, "c2", "60", tick=2)), _contact("c3")
    )
    (of_goal,) = result.per_goal
    hours = [(at(tick) - at(0)) / timedelta(hours=1) for tick in (2, 3)]
    assert (of_goal.first_at, of_goal.median_hours) == (at(2), round(sum(hours) / 2, 2))
    assert (result.enrollments, result.events, result.would_exit) == (3, 2, 2)
    assert result.revenue == {"EUR": {"gross": "110", "reversed": "0", "net": "110"}}


def test_evidence_is_judged_but_not_counted_among_the_kept_events() -> None:
    known = plan_tally.Contact([_enrollment("c1")], evidence=[_event(1, "c1", "50")])
    result = _tally(known)
    assert (result.events, result.per_goal[0].matched_events, result.per_goal[0].would_achieve) == (0, 0, 1)


def test_more_and_only_by_this_leave_out_who_converts_anyhow() -> None:
    tag = goals.GoalVersion(1, Criteria(tag_id="t1"), True, at(-1))
    known = goals.Goal("north", UUID(int=77), "w1", "tag_added", at(-1), (tag,))
    trigger = facts.Trigger("/crm", "1", at(2), b'{"contact_id":"c1","tag_id":"t1"}')
    tagged = events.Event("north", "/crm", "1", "contact.tag.added", at(2), events.TagAdded("c1", "t1"))
    achieved = facts.Achievement(known.goal_id, 1, at(0), trigger, 1)
    both = plan_tally.Contact([_enrollment("c1")], [_event(1, "c1", "50"), tagged], stored={"e-c1": [achieved]})
    result = _tally(both, _contact("c2", _event(2, "c2", "50")), workflow=goals.Workflow((known,)))
    of_new = next(of_goal for of_goal in result.per_goal if of_goal.index == 0)
    assert (of_new.would_achieve, of_new.more, of_new.only_by_this) == (2, 2, 1)
    assert result.compared == plan_tally.Compared(0, 2, 1, 0, 0)


def test_a_plan_hash_changes_with_the_goals_the_logic_and_what_is_asked() -> None:
    goal_id = UUID(int=5)
    asked = {"goals": [{"goal_type": "tag_added", "criteria": {"tag_id": "t1"}}], "from": "x", "sample": 5}
    first = planning.plan_hash("w1", {goal_id: 1}, "any", asked)
    assert first == planning.plan_hash("w1", {goal_id: 1}, "any", {"goals": asked["goals"]})
    others = [
        planning.plan_hash("w2", {goal_id: 1}, "any", asked),
        planning.plan_hash("w1", {goal_id: 2}, "any", asked),
        planning.plan_hash("w1", {}, "any", asked),
        planning.plan_hash("w1", {goal_id: 1}, "all", asked),
        planning.plan_hash("w1", {goal_id: 1}, "any", {**asked, "logic": "all"}),
    ]
    assert len({first, *others}) == 6
