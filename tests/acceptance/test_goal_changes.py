"""Goals that change while events flow: each version counts from its moment on, and never before (contract rule 3.1)."""

import asyncio
from datetime import UTC, datetime

from tests.kit import conversation, messages_in

MICROSECOND = 0.001


async def _achieved(talk: conversation.Talk, runs: dict[str, messages_in.Run]) -> dict[str, int]:
    """Which runs achieved a goal, and by which version of it."""
    names = {run.enrollment_id: name for name, run in runs.items()}
    messages = [each for each in await talk.messages("goal_achieved") if each.data["enrollment_id"] in names]
    return {names[each.data["enrollment_id"]]: each.data["goal_version"] for each in messages}


async def test_a_goal_made_while_events_flow_counts_from_its_moment_on(talk: conversation.Talk) -> None:
    run = messages_in.a_run("flowing")
    await talk.say(run.started(datetime.now(UTC)))
    moments: list[datetime] = []

    async def flow() -> None:
        while True:
            moments.append(datetime.now(UTC))
            await talk.send(run.submits("f", moments[-1], id=f"{len(moments):06}"))

    flowing = asyncio.create_task(flow())
    await conversation.until(lambda: _has_sent(moments, 50))
    goal = await talk.goal("flowing", "form_submitted", form_id="f")
    await conversation.until(lambda: _has_sent(moments, len([each for each in moments if each < goal.created_at]) + 50))
    flowing.cancel()
    await asyncio.wait({flowing})
    await talk.settled()

    achieved, *revised, _ = await talk.heard(run)
    last = revised[-1] if revised else achieved
    assert last.data["achieved_at"] == messages_in.rfc3339(min(each for each in moments if each >= goal.created_at))


async def _has_sent(moments: list[datetime], number: int) -> bool:
    return len(moments) >= number


async def test_an_event_meets_the_version_in_force_when_it_happened(talk: conversation.Talk) -> None:
    made = await talk.goal("versions", "form_submitted", form_id="f")
    changed = await talk.change(made, criteria={"form_id": "g"})
    paused = await talk.change(changed, is_active=False)
    resumed = await talk.change(paused, is_active=True)
    deleted = await talk.delete(resumed)
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
    runs = {name: messages_in.a_run("versions") for name in events}
    await talk.send(*(run.started(messages_in.later(t1, -1)) for run in runs.values()))
    await talk.say(*(runs[name].submits(*event) for name, event in events.items()))
    assert await _achieved(talk, runs) == {"first": 1, "first, last moment": 1, "second": 2, "resumed": 4}


async def test_what_was_achieved_stays_when_its_goal_is_deleted(talk: conversation.Talk) -> None:
    goal = await talk.goal("gone", "form_submitted", form_id="f")
    run = messages_in.a_run("gone")
    await talk.say(run.started(goal.created_at), run.submits("f", messages_in.later(goal.created_at, 1)))
    await talk.delete(goal)
    await talk.say(run.submits("f", goal.created_at))  # earlier, and still a hit of the version then in force
    assert conversation.kinds(await talk.heard(run)) == [
        ("goal.achieved", 1),
        ("goal.achieved", 2),
        ("exit.goal", None),
    ]
