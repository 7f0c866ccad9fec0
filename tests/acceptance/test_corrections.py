"""What a late message changes, and what it leaves (contract rules 3.3 to 3.5)."""

from datetime import datetime

from tests.kit import conversation, messages_in

ACHIEVED, REVOKED, EXIT = "goal.achieved", "goal.revoked", "exit.goal"


async def _form_goal(talk: conversation.Talk, workflow_id: str, form_id: str = "f") -> tuple[str, datetime]:
    """A goal, and a moment from which on it is in force."""
    goal = await talk.goal(workflow_id, "form_submitted", form_id=form_id)
    return str(goal.id), goal.created_at


async def test_an_earlier_hit_that_comes_late_revises_the_achievement_and_the_exit_stands(
    talk: conversation.Talk,
) -> None:
    _, at = await _form_goal(talk, "revised")
    run = messages_in.a_run("revised")
    await talk.say(run.started(at), run.submits("f", messages_in.later(at, 20), id="second"))
    await talk.say(run.submits("f", messages_in.later(at, 10), id="first"))
    first, second, ended = await talk.heard(run)
    assert conversation.kinds([first, second, ended]) == [(ACHIEVED, 1), (ACHIEVED, 2), (EXIT, None)]
    assert [first.data["trigger_event"]["id"], second.data["trigger_event"]["id"]] == ["second", "first"]
    assert second.data["achieved_at"] == messages_in.rfc3339(messages_in.later(at, 10))
    assert ended.data["achieved_at"] == messages_in.rfc3339(messages_in.later(at, 20))


async def test_the_same_event_again_changes_nothing(talk: conversation.Talk) -> None:
    _, at = await _form_goal(talk, "again")
    run = messages_in.a_run("again")
    event = run.submits("f", at)
    await talk.say(run.started(at), event, event)
    await talk.say(event, run.started(at))
    assert conversation.kinds(await talk.heard(run)) == [(ACHIEVED, 1), (EXIT, None)]
    assert len(await talk.records("goal_achieved")) == len(await talk.messages("goal_achieved"))


async def test_a_start_after_its_events_lets_them_count_and_an_earlier_start_is_told(talk: conversation.Talk) -> None:
    _, at = await _form_goal(talk, "started late")
    run = messages_in.a_run("started late")
    await talk.say(run.submits("f", messages_in.later(at, 2)))
    assert await talk.heard(run) == []
    await talk.say(run.started(messages_in.later(at, 2)))
    await talk.say(run.started(messages_in.later(at, 1)))
    await talk.say(run.started(messages_in.later(at, 2)))
    first, second, _ = heard = await talk.heard(run)
    assert conversation.kinds(heard) == [(ACHIEVED, 1), (ACHIEVED, 2), (EXIT, None)]
    assert [first.data["enrolled_at"], second.data["enrolled_at"]] == [
        messages_in.rfc3339(messages_in.later(at, 2)),
        messages_in.rfc3339(messages_in.later(at, 1)),
    ]


async def test_what_happens_before_the_start_or_from_the_end_on_does_not_count(talk: conversation.Talk) -> None:
    _, at = await _form_goal(talk, "window")
    early, late = messages_in.a_run("window"), messages_in.a_run("window")
    start, end = messages_in.later(at, 10), messages_in.later(at, 20)
    await talk.say(early.started(start), early.submits("f", messages_in.later(start, -0.001)))
    await talk.say(late.started(start), late.ended(end), late.submits("f", end))
    assert await talk.heard(early) == await talk.heard(late) == []
    await talk.say(early.submits("f", start), late.submits("f", messages_in.later(end, -0.001)))
    assert conversation.kinds(await talk.heard(early)) == [(ACHIEVED, 1), (EXIT, None)]
    # Achieved in time, and nothing left to stop.
    assert conversation.kinds(await talk.heard(late)) == [(ACHIEVED, 1)]


async def test_an_end_that_comes_late_revokes_and_the_exit_stands(talk: conversation.Talk) -> None:
    _, at = await _form_goal(talk, "ended late")
    run = messages_in.a_run("ended late")
    await talk.say(run.started(at), run.submits("f", messages_in.later(at, 10)))
    await talk.say(run.ended(messages_in.later(at, 5)))
    heard = await talk.heard(run)
    assert conversation.kinds(heard) == [(ACHIEVED, 1), (REVOKED, 2), (EXIT, None)]
    assert heard[1].data["reason"] == "after_end"


async def test_a_deactivation_that_comes_late_revokes_and_an_activation_brings_back(talk: conversation.Talk) -> None:
    _, at = await _form_goal(talk, "paused")
    run = messages_in.a_run("paused")
    await talk.say(run.started(at), run.submits("f", messages_in.later(at, 10)))
    await talk.say(messages_in.deactivated("paused", messages_in.later(at, 5)))
    await talk.say(messages_in.activated("paused", messages_in.later(at, 10)))
    # At equal times, deactivated wins.
    await talk.say(messages_in.deactivated("paused", messages_in.later(at, 10)))
    heard = await talk.heard(run)
    assert conversation.kinds(heard) == [(ACHIEVED, 1), (REVOKED, 2), (ACHIEVED, 3), (REVOKED, 4), (EXIT, None)]
    assert [message.data.get("reason") for message in heard[:4]] == [None, "workflow_inactive"] * 2


async def test_with_any_an_earlier_hit_of_another_goal_supersedes(talk: conversation.Talk) -> None:
    first_goal, _ = await _form_goal(talk, "two goals", "f")
    second_goal, at = await _form_goal(talk, "two goals", "g")
    run = messages_in.a_run("two goals")
    await talk.say(run.started(at), run.submits("f", messages_in.later(at, 20)))
    await talk.say(run.submits("g", messages_in.later(at, 10)))
    heard = await talk.heard(run)
    by_goal = [(*kind, message.data["goal_id"]) for kind, message in zip(conversation.kinds(heard), heard, strict=True)]
    assert set(by_goal) == {
        (ACHIEVED, 1, first_goal),
        (REVOKED, 2, first_goal),
        (ACHIEVED, 1, second_goal),
        (EXIT, None, first_goal),
    }
    (revoked,) = [message for message in heard if "reason" in message.data]
    assert revoked.data["reason"] == "superseded"


async def test_with_all_the_exit_waits_for_every_goal(talk: conversation.Talk) -> None:
    await talk.logic("all of them", "all")
    goals = [(await _form_goal(talk, "all of them", form_id))[0] for form_id in ("f", "g")]
    _, at = await _form_goal(talk, "all of them", "h")
    run = messages_in.a_run("all of them")
    await talk.say(
        run.started(at), run.submits("g", messages_in.later(at, 10)), run.submits("h", messages_in.later(at, 11))
    )
    assert conversation.kinds(await talk.heard(run)) == [(ACHIEVED, 1)] * 2
    await talk.say(run.submits("f", messages_in.later(at, 20)))
    *achieved, ended = await talk.heard(run)
    assert conversation.kinds([*achieved, ended]) == [(ACHIEVED, 1)] * 3 + [(EXIT, None)]
    in_order = sorted(achieved, key=lambda message: message.data["achieved_at"])
    assert ended.data["achievement_ids"] == [message.data["achievement_id"] for message in in_order]
    assert (ended.data["logic"], ended.data["goal_id"]) == ("all", goals[0])


async def test_with_never_goals_are_measured_and_nobody_is_stopped(talk: conversation.Talk) -> None:
    await talk.logic("measured", "never")
    await _form_goal(talk, "measured", "f")
    _, at = await _form_goal(talk, "measured", "g")
    run = messages_in.a_run("measured")
    # One after the other, so that whatever is read first, the third event corrects nothing.
    submitted = [
        run.submits(form_id, messages_in.later(at, number)) for number, form_id in enumerate(("f", "g", "f"), 1)
    ]
    await talk.say(run.started(at), *submitted)
    assert conversation.kinds(await talk.heard(run)) == [(ACHIEVED, 1)] * 2


async def test_each_run_of_a_contact_counts_by_itself(talk: conversation.Talk) -> None:
    _, at = await _form_goal(talk, "re-entry")
    first = messages_in.a_run("re-entry")
    second = messages_in.Run("re-entry", f"{first.enrollment_id}-again", first.contact_id)
    await talk.say(first.started(at), first.ended(messages_in.later(at, 10)), second.started(messages_in.later(at, 10)))
    await talk.say(first.submits("f", messages_in.later(at, 10)))
    assert await talk.heard(first) == []
    assert conversation.kinds(await talk.heard(second)) == [(ACHIEVED, 1), (EXIT, None)]
