"""Scenarios with a late event that changes the outcome (contract rule 3.5).

The second step, with the late event, waits until the worker has handled the first.
"""

from goalworker.demo import plans, records
from goalworker.demo.scenario_builder import ScenarioBuilder
from goalworker.domain import events


def ends_after_the_exit(builder: ScenarioBuilder) -> plans.Step:
    """An end after the exit, as the engine sends it, and then every message again."""
    start, form, end = builder.started("welcome", 0), builder.form("signup", 5), builder.ended("welcome", 20)
    outcome = builder.exited({"signed-up": form})
    replay = builder.shuffled(start, form, end, outcome=outcome)
    return builder.shuffled(start, form, outcome=outcome, then=replay)


def ended_before_all_along(builder: ScenarioBuilder) -> plans.Step:
    """A late end before the event: the achievement is revoked, the exit was sent and remains."""
    form = builder.form("signup", 10)
    before = builder.exited({"signed-up": form})
    after = plans.Outcome(exited=before.exited) + builder.revocable("after_end", "signed-up")
    late = builder.in_order(builder.ended("welcome", 5), outcome=after)
    return builder.shuffled(builder.started("welcome", 0), form, outcome=before, then=late)


def earlier_hit_arrives(builder: ScenarioBuilder) -> plans.Step:
    """A late event before the triggering one: the achievement is revised."""
    form, earlier = builder.form("signup", 10), builder.form("signup", 5)
    before = builder.exited({"signed-up": form})
    revised = builder.achieved({"signed-up": earlier}) + plans.Outcome(exited=before.exited)
    late = builder.in_order(earlier, outcome=revised)
    return builder.shuffled(builder.started("welcome", 0), form, outcome=before, then=late)


def other_goal_was_first(builder: ScenarioBuilder) -> plans.Step:
    """A late event that meets the other goal first: logic `any` keeps that achievement and revokes the former one."""
    form, tag = builder.form("signup", 10), builder.tag(5, tag_name="customer")
    before = builder.exited({"signed-up": form})
    superseded = builder.achieved({"customer": tag}) + plans.Outcome(exited=before.exited)
    superseded += builder.revocable("superseded", "signed-up")
    late = builder.in_order(tag, outcome=superseded)
    return builder.shuffled(builder.started("welcome", 0), form, outcome=before, then=late)


def hit_before_the_known_end(builder: ScenarioBuilder) -> plans.Step:
    """A late event before the end of an enrollment that has ended: an achievement without an exit."""
    form = builder.form("signup", 10)
    late = builder.in_order(form, outcome=builder.achieved({"signed-up": form}))
    return builder.in_order(builder.started("welcome", 0), builder.ended("welcome", 20), then=late, once="committed")


def enters_again(builder: ScenarioBuilder) -> plans.Step:
    """A second enrollment of the contact, with its own exit."""
    first, second = builder.form("signup", 5), builder.form("signup", 15)
    once = builder.exited({"signed-up": first})
    twice = once + builder.exited({"signed-up": second}, "-again")
    again = builder.shuffled(
        builder.ended("welcome", 8), builder.started("welcome", 10, "-again"), second, outcome=twice
    )
    return builder.shuffled(builder.started("welcome", 0), first, outcome=once, then=again)


def two_contacts_one_enrollment(builder: ScenarioBuilder) -> plans.Step:
    """An enrollment id used again for another contact: a dead letter; the enrollment recorded first remains."""
    start, form = builder.started("welcome", 0), builder.form("signup", 5)
    outcome = builder.exited({"signed-up": form})
    builder.contact_id = f"impostor-{builder.number}"
    conflict = records.encode(builder.started("welcome", 1), builder.rng)
    letter = plans.DeadLetter(conflict.topic, conflict.key, "conflicting_enrollment")
    disputed = outcome + plans.Outcome(dead_letters=(letter,))
    after = plans.Step((conflict,), disputed, enrollments=builder.enrollments)
    return builder.shuffled(start, form, outcome=outcome, then=after, once="committed")


# --- pauses of workflows that no other scenario uses ---


def workflow_was_paused_all_along(builder: ScenarioBuilder) -> plans.Step:
    """A late deactivation: the achievement stands, and so does the exit that was sent."""
    form = builder.form("farewell", 10)
    outcome = builder.exited({"farewell": form})
    late = builder.in_order(builder.workflow_changed(events.WORKFLOW_DEACTIVATED, "sunset", 5), outcome=outcome)
    return builder.shuffled(builder.started("sunset", 0), form, outcome=outcome, then=late)


def exit_waits_for_the_activation(builder: ScenarioBuilder) -> plans.Step:
    """An achievement in a pause, whose exit is sent once the activation is known."""
    form = builder.form("greeting", 10)
    reopened = builder.in_order(
        builder.workflow_changed(events.WORKFLOW_ACTIVATED, "seasonal", 20),
        outcome=builder.exited({"greeted": form}),
    )
    met = builder.shuffled(
        builder.started("seasonal", 0),
        form,
        outcome=builder.achieved({"greeted": form}),
        then=reopened,
        once="committed",
    )
    pause = builder.workflow_changed(events.WORKFLOW_DEACTIVATED, "seasonal", 5)
    return builder.in_order(pause, then=met, once="committed")
