"""Goals that change while events arrive: each version counts from its own time on (contract rule 3.1)."""

import asyncio
from datetime import UTC, datetime

from tests.kit import clients, messages_in

MICROSECOND = 0.001


async def _achieved(client: clients.Client, enrollments: dict[str, messages_in.Enrollment]) -> dict[str, int]:
    """Return the version of the goal that each enrollment achieved, by its name."""
    names = {enrollment.enrollment_id: name for name, enrollment in enrollments.items()}
    messages = [each for each in await client.messages("goal_achieved") if each.data["enrollment_id"] in names]
    return {names[each.data["enrollment_id"]]: each.data["goal_version"] for each in messages}


async def test_a_goal_created_under_traffic_counts_from_its_creation_on(client: clients.Client) -> None:
    enrollment = messages_in.new_enrollment("flowing")
    await client.process(enrollment.started(datetime.now(UTC)))
    moments: list[datetime] = []

    async def flow() -> None:
        while True:
            moments.append(datetime.now(UTC))
            await client.send(enrollment.submits("f", moments[-1], id=f"{len(moments):06}"))

    flowing = asyncio.create_task(flow())
    await clients.until(lambda: _has_sent(moments, 50))
    goal = await client.create_goal("flowing", "form_submitted", form_id="f")
    await clients.until(lambda: _has_sent(moments, len([each for each in moments if each < goal.created_at]) + 50))
    flowing.cancel()
    await asyncio.wait({flowing})
    await client.settle()

    achieved, *revised, _ = await client.messages_about(enrollment)
    last = revised[-1] if revised else achieved
    assert last.data["achieved_at"] == messages_in.rfc3339(min(each for each in moments if each >= goal.created_at))


async def _has_sent(moments: list[datetime], number: int) -> bool:
    return len(moments) >= number


async def test_an_event_is_judged_by_the_version_in_force_at_its_time(client: clients.Client) -> None:
    made = await client.create_goal("versions", "form_submitted", form_id="f")
    changed = await client.update_goal(made, criteria={"form_id": "g"})
    paused = await client.update_goal(changed, is_active=False)
    resumed = await client.update_goal(paused, is_active=True)
    deleted = await client.delete_goal(resumed)
    t1, t2, t3, t4, t5 = (each.updated_at for each in (made, changed, paused, resumed, deleted))
    events = {
        "before all": ("f", messages_in.later(t1, -MICROSECOND)),
        "first": ("f", t1),
        "first, last moment": ("f", messages_in.later(t2, -MICROSECOND)),
        "first criteria later": ("f", t2),
        "second": ("g", t2),
        "second criteria earlier": ("g", t1),
        "paused": ("g", t3),
        "paused, last moment": ("g", messages_in.later(t4, -MICROSECOND)),
        "resumed": ("g", t4),
        "deleted": ("g", t5),
    }
    enrollments = {name: messages_in.new_enrollment("versions") for name in events}
    await client.send(*(enrollment.started(messages_in.later(t1, -1)) for enrollment in enrollments.values()))
    await client.process(*(enrollments[name].submits(*event) for name, event in events.items()))
    assert await _achieved(client, enrollments) == {"first": 1, "first, last moment": 1, "second": 2, "resumed": 4}


async def test_achievements_remain_when_their_goal_is_deleted(client: clients.Client) -> None:
    goal = await client.create_goal("gone", "form_submitted", form_id="f")
    enrollment = messages_in.new_enrollment("gone")
    await client.process(
        enrollment.started(goal.created_at), enrollment.submits("f", messages_in.later(goal.created_at, 1))
    )
    await client.delete_goal(goal)
    await client.process(
        enrollment.submits("f", goal.created_at)
    )  # earlier, and still a hit of the version in force at that time
    assert clients.kinds(await client.messages_about(enrollment)) == [
        ("goal.achieved", 1),
        ("goal.achieved", 2),
        ("exit.goal", None),
    ]
