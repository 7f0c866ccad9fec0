"""What arrives late and changes the answer (contract rule 3.5): the second step waits for what the first led to."""

from goalworker.demo import plans, records
from goalworker.demo.scene import Scene
from goalworker.domain import events


def ends_after_the_exit(scene: Scene) -> plans.Step:
    """As the engine does it; and then every message comes once more."""
    start, form, end = scene.started("welcome", 0), scene.form("signup", 5), scene.ended("welcome", 20)
    outcome = scene.exited({"signed-up": form})
    replay = scene.shuffled(start, form, end, outcome=outcome)
    return scene.shuffled(start, form, outcome=outcome, then=replay)


def ended_before_all_along(scene: Scene) -> plans.Step:
    """A late end: the achievement is revoked, the exit was sent and stands."""
    form = scene.form("signup", 10)
    before = scene.exited({"signed-up": form})
    late = scene.in_order(scene.ended("welcome", 5), outcome=plans.Outcome(exited=before.exited))
    return scene.shuffled(scene.started("welcome", 0), form, outcome=before, then=late)


def earlier_hit_arrives(scene: Scene) -> plans.Step:
    """The achievement is revised to the earlier event."""
    form, earlier = scene.form("signup", 10), scene.form("signup", 5)
    before = scene.exited({"signed-up": form})
    revised = scene.achieved({"signed-up": earlier}) + plans.Outcome(exited=before.exited)
    late = scene.in_order(earlier, outcome=revised)
    return scene.shuffled(scene.started("welcome", 0), form, outcome=before, then=late)


def other_goal_was_first(scene: Scene) -> plans.Step:
    """Logic `any` stops at the earlier event of the other goal: the one achieved before is superseded."""
    form, tag = scene.form("signup", 10), scene.tag(5, tag_name="customer")
    before = scene.exited({"signed-up": form})
    superseded = scene.achieved({"customer": tag}) + plans.Outcome(exited=before.exited)
    late = scene.in_order(tag, outcome=superseded)
    return scene.shuffled(scene.started("welcome", 0), form, outcome=before, then=late)


def hit_before_the_known_end(scene: Scene) -> plans.Step:
    """A late event inside a window that is closed by now: achieved, but nothing to exit from."""
    form = scene.form("signup", 10)
    late = scene.in_order(form, outcome=scene.achieved({"signed-up": form}))
    return scene.in_order(scene.started("welcome", 0), scene.ended("welcome", 20), then=late, once="committed")


def enters_again(scene: Scene) -> plans.Step:
    """Re-entry is a new enrollment, with an exit of its own."""
    first, second = scene.form("signup", 5), scene.form("signup", 15)
    once = scene.exited({"signed-up": first})
    twice = once + scene.exited({"signed-up": second}, "-again")
    again = scene.shuffled(scene.ended("welcome", 8), scene.started("welcome", 10, "-again"), second, outcome=twice)
    return scene.shuffled(scene.started("welcome", 0), first, outcome=once, then=again)


def two_contacts_one_enrollment(scene: Scene) -> plans.Step:
    """The enrollment id comes again with another contact: dead-lettered, the first one recorded stands."""
    start, form = scene.started("welcome", 0), scene.form("signup", 5)
    outcome = scene.exited({"signed-up": form})
    scene.contact_id = f"impostor-{scene.number}"
    conflict = records.send(scene.started("welcome", 1), scene.rng)
    letter = plans.DeadLetter(conflict.topic, conflict.key, "conflicting_enrollment")
    disputed = outcome + plans.Outcome(dead_letters=(letter,))
    after = plans.Step((conflict,), disputed, enrollments=scene.enrollments)
    return scene.shuffled(start, form, outcome=outcome, then=after, once="committed")


def workflow_was_paused_all_along(scene: Scene) -> plans.Step:
    """A late deactivation, which has a workflow of its own: revoked, the exit stands. Once for each tenant."""
    form = scene.form("farewell", 10)
    before = scene.exited({"farewell": form})
    pause = scene.workflow_changed(events.WORKFLOW_DEACTIVATED, "sunset", 5)
    late = scene.in_order(pause, outcome=plans.Outcome(exited=before.exited))
    return scene.shuffled(scene.started("sunset", 0), form, outcome=before, then=late)
