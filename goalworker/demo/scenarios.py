"""What can happen to a contact, and what must come of it whatever the worker sees first.

An outcome is written down next to the happenings that it follows from; nothing here asks the code under test.
"""

from datetime import timedelta

from goalworker.demo import plans, stage
from goalworker.demo.scene import Scene

# --- nothing may come of these ---


def stranger(scene: Scene) -> plans.Step:
    """Hits of somebody who is not enrolled."""
    return scene.in_order(scene.form("signup", 0), scene.payment("99", "EUR", ["pro-plan"], 1))


def passer_by(scene: Scene) -> plans.Step:
    """What no goal asks for, of somebody who is not enrolled."""
    return scene.in_order(scene.form("contact-us", 0), scene.appointment("sales", 1), scene.reaches("deals", "lost", 2))


def other_form(scene: Scene) -> plans.Step:
    return scene.shuffled(
        scene.started("welcome", 0), scene.form("Signup", 1), scene.form("signup ", 2), scene.form("survey", 3)
    )


def not_quite_bought(scene: Scene) -> plans.Step:
    """Too little by the last digit, the wrong currency, the wrong product, and another tag with the right name."""
    return scene.shuffled(
        scene.started("checkout", 0),
        scene.payment("49.989999999999999999", "EUR", ["pro-plan"], 1),
        scene.payment("50", "USD", ["pro-plan"], 2),
        scene.payment("1000", "EUR", ["basic-plan"], 3),
        scene.tag(4, tag_id="tag-gold", tag_name="VIP"),
    )


def not_quite_won(scene: Scene) -> plans.Step:
    return scene.shuffled(
        scene.started("onboarding", 0), scene.reaches("deals", "proposal", 1), scene.reaches("hiring", "won", 2)
    )


def too_early(scene: Scene) -> plans.Step:
    """A microsecond before the enrollment."""
    return scene.shuffled(scene.form("signup", 4.999), scene.started("welcome", 5))


def before_the_goal(scene: Scene) -> plans.Step:
    """Enrolled long ago; the event is older than the goal, and goals are never retroactive."""
    old = scene.stage.since - timedelta(seconds=60)
    return scene.shuffled(scene.started("welcome", old - timedelta(seconds=60)), scene.form("signup", old))


def too_late(scene: Scene) -> plans.Step:
    """The end is known, and is exclusive."""
    after = scene.in_order(scene.form("signup", 10), scene.form("signup", 11))
    return scene.in_order(scene.started("welcome", 0), scene.ended("welcome", 10), then=after, once="committed")


def ended_twice(scene: Scene) -> plans.Step:
    """The earlier end stands; nothing exits in `never`, so that any order will do."""
    return scene.shuffled(
        scene.started("survey", 0), scene.form("survey", 10), scene.ended("survey", 20), scene.ended("survey", 8)
    )


def workflow_paused(scene: Scene) -> plans.Step:
    return scene.shuffled(scene.started("paused", 0), scene.form("signup", 1))


def other_tenant(scene: Scene) -> plans.Step:
    """The same contact id elsewhere is somebody else."""
    scene.contact_id = f"traveller-{scene.tenant_id}-{scene.number}"
    start = scene.started("welcome", 0)
    others = [tenant for tenant in scene.stage.tenants if tenant != scene.tenant_id]
    scene.tenant_id = scene.rng.choice(others or ["nobody"])
    return scene.shuffled(start, scene.form("signup", 1))


# --- something must come of these ---


def signs_up(scene: Scene) -> plans.Step:
    """At the very moment of the enrollment, which is inclusive, or later."""
    form = scene.form("signup", scene.rng.choice((0, 5)))
    return scene.shuffled(
        scene.started("welcome", 0), form, scene.form("survey", 1), outcome=scene.exited({"signed-up": form})
    )


def enrolled_long_ago(scene: Scene) -> plans.Step:
    """Enrolled before the goal was there; the event is younger."""
    form = scene.form("signup", 0)
    start = scene.started("welcome", scene.stage.since - timedelta(seconds=60))
    return scene.shuffled(start, form, outcome=scene.exited({"signed-up": form}))


def tagged_by_name(scene: Scene) -> plans.Step:
    """Names are folded: blanks around, case, and full-width letters don't matter."""
    name = scene.rng.choice(("Customer", "  customer ", "ＣＵＳＴＯＭＥＲ"))  # noqa: RUF001 - full width on purpose
    tag = scene.tag(5, tag_name=name)
    return scene.shuffled(
        scene.started("welcome", 0), scene.tag(2, tag_name="Customers"), tag, outcome=scene.exited({"customer": tag})
    )


def tagged_by_id(scene: Scene) -> plans.Step:
    """Where both sides have an id, the name is only a label."""
    tag = scene.tag(5, tag_id="tag-vip", tag_name="renamed")
    return scene.shuffled(scene.started("checkout", 0), tag, outcome=scene.exited({"vip": tag}))


def buys(scene: Scene) -> plans.Step:
    """The exact amount, after purchases that were not enough."""
    paid = scene.payment(scene.rng.choice(("49.99", "50", "120")), "eur", ["x", "pro-plan"], 9)
    return scene.shuffled(
        scene.started("checkout", 0),
        scene.payment("49.98", "EUR", ["pro-plan"], 1),
        scene.payment("49.99", "CHF", ["pro-plan"], 2),
        paid,
        outcome=scene.exited({"bought": paid}),
    )


def buys_for_two_goals(scene: Scene) -> plans.Step:
    """One event achieves both goals of a workflow; the older goal is the completing one."""
    paid = scene.payment("0", "JPY", ["pro-plan"], 3)
    return scene.shuffled(scene.started("upsell", 0), paid, outcome=scene.exited({"pro": paid, "any-purchase": paid}))


def in_two_workflows(scene: Scene) -> plans.Step:
    form = scene.form("signup", 3)
    return scene.shuffled(
        scene.started("welcome", 0),
        scene.started("newsletter", 1),
        form,
        outcome=scene.exited({"signed-up": form}) + scene.exited({"subscribed": form}),
    )


def onboarded(scene: Scene) -> plans.Step:
    """Logic `all`: the third goal completes."""
    moments = scene.rng.sample((3, 6, 9), 3)
    triggers = {
        "kick-off": scene.form("kick-off", moments[0]),
        "first-call": scene.appointment("onboarding", moments[1]),
        "won": scene.reaches("deals", "won", moments[2]),
    }
    in_time = dict(sorted(triggers.items(), key=lambda item: item[1].time))
    return scene.shuffled(scene.started("onboarding", 0), *triggers.values(), outcome=scene.exited(in_time))


def half_onboarded(scene: Scene) -> plans.Step:
    """Two of three: achieved, and no exit."""
    form, call = scene.form("kick-off", 3), scene.appointment("onboarding", 6)
    return scene.shuffled(
        scene.started("onboarding", 0),
        form,
        call,
        scene.appointment("sales", 7),
        outcome=scene.achieved({"kick-off": form, "first-call": call}),
    )


def answers(scene: Scene) -> plans.Step:
    """Logic `never`: each goal by its first event, in the order of time, source and id; the end is exclusive."""
    first, second = scene.form("survey", 5), scene.form("survey", 5)
    booked = scene.appointment("anything", 6)
    earliest = min(first, second, key=lambda each: (each.source, each.id))
    return scene.shuffled(
        scene.started("survey", 0),
        first,
        second,
        scene.form("survey", 7),
        booked,
        scene.ended("survey", 6.001),
        outcome=scene.achieved({"answered": earliest, "booked": booked}),
    )


def enrolled_earlier_than_first_said(scene: Scene) -> plans.Step:
    """Started twice: the earlier time stands."""
    form = scene.form("signup", 10)
    return scene.shuffled(
        scene.started("welcome", 20), scene.started("welcome", 5), form, outcome=scene.exited({"signed-up": form})
    )


def workflow_reopened(scene: Scene) -> plans.Step:
    """What happened in the pause doesn't count; what happens after it does."""
    ignored = scene.form("signup", scene.stage.since + stage.PAUSE / 2)
    form = scene.form("signup", 5)
    return scene.shuffled(
        scene.started("reopened", scene.stage.since), ignored, form, outcome=scene.exited({"reopened-signup": form})
    )
