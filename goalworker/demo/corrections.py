"""What arrives late and changes the answer (contract rule 3.5): the second step waits for what the first led to."""

from goalworker.demo import plans, records
from goalworker.demo.scenario_builder import ScenarioBuilder
from goalworker.domain import events


def ends_after_the_exit(builder: ScenarioBuilder) -> plans.Step:
    """As the engine does it; and then every message comes once more."""
    start, form, end = builder.started("welcome", 0), builder.form("signup", 5), builder.ended("welcome", 20)
    outcome = builder.exited({"signed-up": form})
    replay = builder.shuffled(start, form, end, outcome=outcome)
    return builder.shuffled(start, form, outcome=outcome, then=replay)


def ended_before_all_along(builder: ScenarioBuilder) -> plans.Step:
    """A late end: the achievement is revoked, the exit was sent and stands."""
    form = builder.form("signup", 10)
    before = builder.exited({"signed-up": form})
    late = builder.in_order(builder.ended("welcome", 5), outcome=plans.Outcome(exited=before.exited))
    return builder.shuffled(builder.started("welcome", 0), form, outcome=before, then=late)


def earlier_hit_arrives(builder: ScenarioBuilder) -> plans.Step:
    """The achievement is revised to the earlier event."""
    form, earlier = builder.form("signup", 10), builder.form("signup", 5)
    before = builder.exited({"signed-up": form})
    revised = builder.achieved({"signed-up": earlier}) + plans.Outcome(exited=before.exited)
    late = builder.in_order(earlier, outcome=revised)
    return builder.shuffled(builder.started("welcome", 0), form, outcome=before, then=late)


def other_goal_was_first(builder: ScenarioBuilder) -> plans.Step:
    """Logic `any` stops at the earlier event of the other goal: the one achieved before is superseded."""
    form, tag = builder.form("signup", 10), builder.tag(5, tag_name="customer")
    before = builder.exited({"signed-up": form})
    superseded = builder.achieved({"customer": tag}) + plans.Outcome(exited=before.exited)
    late = builder.in_order(tag, outcome=superseded)
    return builder.shuffled(builder.started("welcome", 0), form, outcome=before, then=late)


def hit_before_the_known_end(builder: ScenarioBuilder) -> plans.Step:
    """A late event inside a window that is closed by now: achieved, but nothing to exit from."""
    form = builder.form("signup", 10)
    late = builder.in_order(form, outcome=builder.achieved({"signed-up": form}))
    return builder.in_order(builder.started("welcome", 0), builder.ended("welcome", 20), then=late, once="committed")


def enters_again(builder: ScenarioBuilder) -> plans.Step:
    """Re-entry is a new enrollment, with an exit of its own."""
    first, second = builder.form("signup", 5), builder.form("signup", 15)
    once = builder.exited({"signed-up": first})
    twice = once + builder.exited({"signed-up": second}, "-again")
    again = builder.shuffled(
        builder.ended("welcome", 8), builder.started("welcome", 10, "-again"), second, outcome=twice
    )
    return builder.shuffled(builder.started("welcome", 0), first, outcome=once, then=again)


def two_contacts_one_enrollment(builder: ScenarioBuilder) -> plans.Step:
    """The enrollment id comes again with another contact: dead-lettered, the first one recorded stands."""
    start, form = builder.started("welcome", 0), builder.form("signup", 5)
    outcome = builder.exited({"signed-up": form})
    builder.contact_id = f"impostor-{builder.number}"
    conflict = records.encode(builder.started("welcome", 1), builder.rng)
    letter = plans.DeadLetter(conflict.topic, conflict.key, "conflicting_enrollment")
    disputed = outcome + plans.Outcome(dead_letters=(letter,))
    after = plans.Step((conflict,), disputed, enrollments=builder.enrollments)
    return builder.shuffled(start, form, outcome=outcome, then=after, once="committed")


def workflow_was_paused_all_along(builder: ScenarioBuilder) -> plans.Step:
    """A late deactivation, which has a workflow of its own: revoked, the exit stands. Once for each tenant."""
    form = builder.form("farewell", 10)
    before = builder.exited({"farewell": form})
    pause = builder.workflow_changed(events.WORKFLOW_DEACTIVATED, "sunset", 5)
    late = builder.in_order(pause, outcome=plans.Outcome(exited=before.exited))
    return builder.shuffled(builder.started("sunset", 0), form, outcome=before, then=late)
