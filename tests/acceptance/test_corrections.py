"""Late messages correct achievements, and never take back an exit (contract rules 3.3 to 3.5)."""

from datetime import datetime

from tests.kit import clients, messages_in

ACHIEVED, REVOKED, EXIT = "goal.achieved", "goal.revoked", "exit.goal"


async def _form_goal(client: clients.Client, workflow_id: str, form_id: str = "f") -> tuple[str, datetime]:
    """Create a goal, and return its id and a moment from which it is in force."""
    goal = await client.create_goal(workflow_id, "form_submitted", form_id=form_id)
    return str(goal.id), goal.created_at


async def test_a_late_earlier_hit_revises_the_achievement_and_keeps_the_exit(
    client: clients.Client,
) -> None:
    _, at = await _form_goal(client, "revised")
    enrollment = messages_in.new_enrollment("revised")
    await client.process(enrollment.started(at), enrollment.submits("f", messages_in.later(at, 20), id="second"))
    await client.process(enrollment.submits("f", messages_in.later(at, 10), id="first"))
    first, second, ended = await client.messages_about(enrollment)
    assert clients.kinds([first, second, ended]) == [(ACHIEVED, 1), (ACHIEVED, 2), (EXIT, None)]
    assert [first.data["trigger_event"]["id"], second.data["trigger_event"]["id"]] == ["second", "first"]
    assert second.data["achieved_at"] == messages_in.rfc3339(messages_in.later(at, 10))
    assert ended.data["achieved_at"] == messages_in.rfc3339(messages_in.later(at, 20))


async def test_a_repeated_event_changes_nothing(client: clients.Client) -> None:
    _, at = await _form_goal(client, "again")
    enrollment = messages_in.new_enrollment("again")
    event = enrollment.submits("f", at)
    await client.process(enrollment.started(at), event, event)
    await client.process(event, enrollment.started(at))
    assert clients.kinds(await client.messages_about(enrollment)) == [(ACHIEVED, 1), (EXIT, None)]
    assert len(await client.records("goal_achieved")) == len(await client.messages("goal_achieved"))


async def test_a_late_start_makes_events_count_and_an_earlier_start_is_published(client: clients.Client) -> None:
    _, at = await _form_goal(client, "started late")
    enrollment = messages_in.new_enrollment("started late")
    await client.process(enrollment.submits("f", messages_in.later(at, 2)))
    assert await client.messages_about(enrollment) == []
    await client.process(enrollment.started(messages_in.later(at, 2)))
    await client.process(enrollment.started(messages_in.later(at, 1)))
    await client.process(enrollment.started(messages_in.later(at, 2)))
    first, second, _ = messages = await client.messages_about(enrollment)
    assert clients.kinds(messages) == [(ACHIEVED, 1), (ACHIEVED, 2), (EXIT, None)]
    assert [first.data["enrolled_at"], second.data["enrolled_at"]] == [
        messages_in.rfc3339(messages_in.later(at, 2)),
        messages_in.rfc3339(messages_in.later(at, 1)),
    ]


async def test_events_before_the_start_or_from_the_end_on_do_not_count(client: clients.Client) -> None:
    _, at = await _form_goal(client, "window")
    early, late = messages_in.new_enrollment("window"), messages_in.new_enrollment("window")
    start, end = messages_in.later(at, 10), messages_in.later(at, 20)
    await client.process(early.started(start), early.submits("f", messages_in.later(start, -0.001)))
    await client.process(late.started(start), late.ended(end), late.submits("f", end))
    assert await client.messages_about(early) == await client.messages_about(late) == []
    await client.process(early.submits("f", start), late.submits("f", messages_in.later(end, -0.001)))
    assert clients.kinds(await client.messages_about(early)) == [(ACHIEVED, 1), (EXIT, None)]
    # Achieved in time, but ended already: without an exit.
    assert clients.kinds(await client.messages_about(late)) == [(ACHIEVED, 1)]


async def test_a_late_end_revokes_the_achievement_and_keeps_the_exit(client: clients.Client) -> None:
    _, at = await _form_goal(client, "ended late")
    enrollment = messages_in.new_enrollment("ended late")
    await client.process(enrollment.started(at), enrollment.submits("f", messages_in.later(at, 10)))
    await client.process(enrollment.ended(messages_in.later(at, 5)))
    messages = await client.messages_about(enrollment)
    assert clients.kinds(messages) == [(ACHIEVED, 1), (REVOKED, 2), (EXIT, None)]
    assert messages[1].data["reason"] == "after_end"


async def test_an_exit_of_a_pause_waits_for_the_next_activation(client: clients.Client) -> None:
    _, at = await _form_goal(client, "paused")
    enrollment = messages_in.new_enrollment("paused")
    await client.process(enrollment.started(at), messages_in.deactivated("paused", messages_in.later(at, 5)))
    await client.process(enrollment.submits("f", messages_in.later(at, 10)))
    # At equal times, a deactivation takes precedence.
    await client.process(messages_in.deactivated("paused", messages_in.later(at, 20)))
    await client.process(messages_in.activated("paused", messages_in.later(at, 20)))
    assert clients.kinds(await client.messages_about(enrollment)) == [(ACHIEVED, 1)]
    await client.process(messages_in.activated("paused", messages_in.later(at, 30)))
    assert clients.kinds(await client.messages_about(enrollment)) == [(ACHIEVED, 1), (EXIT, None)]


async def test_logic_any_an_earlier_hit_of_another_goal_supersedes(client: clients.Client) -> None:
    first_goal, _ = await _form_goal(client, "two goals", "f")
    second_goal, at = await _form_goal(client, "two goals", "g")
    enrollment = messages_in.new_enrollment("two goals")
    await client.process(enrollment.started(at), enrollment.submits("f", messages_in.later(at, 20)))
    await client.process(enrollment.submits("g", messages_in.later(at, 10)))
    messages = await client.messages_about(enrollment)
    by_goal = [
        (*kind, message.data["goal_id"]) for kind, message in zip(clients.kinds(messages), messages, strict=True)
    ]
    assert set(by_goal) == {
        (ACHIEVED, 1, first_goal),
        (REVOKED, 2, first_goal),
        (ACHIEVED, 1, second_goal),
        (EXIT, None, first_goal),
    }
    (revoked,) = [message for message in messages if "reason" in message.data]
    assert revoked.data["reason"] == "superseded"


async def test_logic_all_the_exit_waits_for_every_goal(client: clients.Client) -> None:
    await client.set_logic("all of them", "all")
    goals = [(await _form_goal(client, "all of them", form_id))[0] for form_id in ("f", "g")]
    _, at = await _form_goal(client, "all of them", "h")
    enrollment = messages_in.new_enrollment("all of them")
    await client.process(
        enrollment.started(at),
        enrollment.submits("g", messages_in.later(at, 10)),
        enrollment.submits("h", messages_in.later(at, 11)),
    )
    assert clients.kinds(await client.messages_about(enrollment)) == [(ACHIEVED, 1)] * 2
    await client.process(enrollment.submits("f", messages_in.later(at, 20)))
    *achieved, ended = await client.messages_about(enrollment)
    assert clients.kinds([*achieved, ended]) == [(ACHIEVED, 1)] * 3 + [(EXIT, None)]
    in_order = sorted(achieved, key=lambda message: message.data["achieved_at"])
    assert ended.data["achievement_ids"] == [message.data["achievement_id"] for message in in_order]
    assert (ended.data["logic"], ended.data["goal_id"]) == ("all", goals[0])


async def test_logic_never_goals_are_achieved_without_an_exit(client: clients.Client) -> None:
    await client.set_logic("measured", "never")
    await _form_goal(client, "measured", "f")
    _, at = await _form_goal(client, "measured", "g")
    enrollment = messages_in.new_enrollment("measured")
    # Sent one after the other, so that the third event never corrects an achievement.
    submitted = [
        enrollment.submits(form_id, messages_in.later(at, number)) for number, form_id in enumerate(("f", "g", "f"), 1)
    ]
    await client.process(enrollment.started(at), *submitted)
    assert clients.kinds(await client.messages_about(enrollment)) == [(ACHIEVED, 1)] * 2


async def test_each_enrollment_of_a_contact_is_judged_separately(client: clients.Client) -> None:
    _, at = await _form_goal(client, "re-entry")
    first = messages_in.new_enrollment("re-entry")
    second = messages_in.Enrollment("re-entry", f"{first.enrollment_id}-again", first.contact_id)
    await client.process(
        first.started(at), first.ended(messages_in.later(at, 10)), second.started(messages_in.later(at, 10))
    )
    await client.process(first.submits("f", messages_in.later(at, 10)))
    assert await client.messages_about(first) == []
    assert clients.kinds(await client.messages_about(second)) == [(ACHIEVED, 1), (EXIT, None)]
