"""What can happen to a contact, and what must come of it whatever the worker sees first.

An outcome is written down next to the source_events that it follows from; nothing here asks the code under test.
"""

from datetime import timedelta

from goalworker.demo import plans, tenant_setup
from goalworker.demo.scenario_builder import ScenarioBuilder

# --- nothing may come of these ---


def stranger(builder: ScenarioBuilder) -> plans.Step:
    """Hits of somebody who is not enrolled."""
    return builder.in_order(builder.form("signup", 0), builder.payment("99", "EUR", ["pro-plan"], 1))


def passer_by(builder: ScenarioBuilder) -> plans.Step:
    """What no goal asks for, of somebody who is not enrolled."""
    return builder.in_order(
        builder.form("contact-us", 0), builder.appointment("sales", 1), builder.reaches("deals", "lost", 2)
    )


def other_form(builder: ScenarioBuilder) -> plans.Step:
    return builder.shuffled(
        builder.started("welcome", 0), builder.form("Signup", 1), builder.form("signup ", 2), builder.form("survey", 3)
    )


def not_quite_bought(builder: ScenarioBuilder) -> plans.Step:
    """Too little by the last digit, the wrong currency, the wrong product, and another tag with the right name."""
    return builder.shuffled(
        builder.started("checkout", 0),
        builder.payment("49.989999999999999999", "EUR", ["pro-plan"], 1),
        builder.payment("50", "USD", ["pro-plan"], 2),
        builder.payment("1000", "EUR", ["basic-plan"], 3),
        builder.tag(4, tag_id="tag-gold", tag_name="VIP"),
    )


def not_quite_won(builder: ScenarioBuilder) -> plans.Step:
    return builder.shuffled(
        builder.started("onboarding", 0), builder.reaches("deals", "proposal", 1), builder.reaches("hiring", "won", 2)
    )


def too_early(builder: ScenarioBuilder) -> plans.Step:
    """A microsecond before the enrollment."""
    return builder.shuffled(builder.form("signup", 4.999), builder.started("welcome", 5))


def before_the_goal(builder: ScenarioBuilder) -> plans.Step:
    """Enrolled long ago; the event is older than the goal, and goals are never retroactive."""
    old = builder.setup.since - timedelta(seconds=60)
    return builder.shuffled(builder.started("welcome", old - timedelta(seconds=60)), builder.form("signup", old))


def too_late(builder: ScenarioBuilder) -> plans.Step:
    """The end is known, and is exclusive."""
    after = builder.in_order(builder.form("signup", 10), builder.form("signup", 11))
    return builder.in_order(builder.started("welcome", 0), builder.ended("welcome", 10), then=after, once="committed")


def ended_twice(builder: ScenarioBuilder) -> plans.Step:
    """The earlier end stands; nothing exits in `never`, so that any order will do."""
    return builder.shuffled(
        builder.started("survey", 0),
        builder.form("survey", 10),
        builder.ended("survey", 20),
        builder.ended("survey", 8),
    )


def workflow_paused(builder: ScenarioBuilder) -> plans.Step:
    return builder.shuffled(builder.started("paused", 0), builder.form("signup", 1))


def other_tenant(builder: ScenarioBuilder) -> plans.Step:
    """The same contact id elsewhere is somebody else."""
    builder.contact_id = f"traveller-{builder.tenant_id}-{builder.number}"
    start = builder.started("welcome", 0)
    others = [tenant for tenant in builder.setup.tenants if tenant != builder.tenant_id]
    builder.tenant_id = builder.rng.choice(others or ["nobody"])
    return builder.shuffled(start, builder.form("signup", 1))


# --- something must come of these ---


def signs_up(builder: ScenarioBuilder) -> plans.Step:
    """At the very moment of the enrollment, which is inclusive, or later."""
    form = builder.form("signup", builder.rng.choice((0, 5)))
    return builder.shuffled(
        builder.started("welcome", 0), form, builder.form("survey", 1), outcome=builder.exited({"signed-up": form})
    )


def enrolled_long_ago(builder: ScenarioBuilder) -> plans.Step:
    """Enrolled before the goal was there; the event is younger."""
    form = builder.form("signup", 0)
    start = builder.started("welcome", builder.setup.since - timedelta(seconds=60))
    return builder.shuffled(start, form, outcome=builder.exited({"signed-up": form}))


def tagged_by_name(builder: ScenarioBuilder) -> plans.Step:
    """Names are folded: blanks around, case, and full-width letters don't matter."""
    name = builder.rng.choice(("Customer", "  customer ", "ＣＵＳＴＯＭＥＲ"))  # noqa: RUF001 - full width on purpose
    tag = builder.tag(5, tag_name=name)
    return builder.shuffled(
        builder.started("welcome", 0),
        builder.tag(2, tag_name="Customers"),
        tag,
        outcome=builder.exited({"customer": tag}),
    )


def tagged_by_id(builder: ScenarioBuilder) -> plans.Step:
    """Where both sides have an id, the name is only a label."""
    tag = builder.tag(5, tag_id="tag-vip", tag_name="renamed")
    return builder.shuffled(builder.started("checkout", 0), tag, outcome=builder.exited({"vip": tag}))


def buys(builder: ScenarioBuilder) -> plans.Step:
    """The exact amount, after purchases that were not enough."""
    paid = builder.payment(builder.rng.choice(("49.99", "50", "120")), "eur", ["x", "pro-plan"], 9)
    return builder.shuffled(
        builder.started("checkout", 0),
        builder.payment("49.98", "EUR", ["pro-plan"], 1),
        builder.payment("49.99", "CHF", ["pro-plan"], 2),
        paid,
        outcome=builder.exited({"bought": paid}),
    )


def buys_for_two_goals(builder: ScenarioBuilder) -> plans.Step:
    """One event achieves both goals of a workflow; the older goal is the completing one."""
    paid = builder.payment("0", "JPY", ["pro-plan"], 3)
    return builder.shuffled(
        builder.started("upsell", 0), paid, outcome=builder.exited({"pro": paid, "any-purchase": paid})
    )


def in_two_workflows(builder: ScenarioBuilder) -> plans.Step:
    form = builder.form("signup", 3)
    return builder.shuffled(
        builder.started("welcome", 0),
        builder.started("newsletter", 1),
        form,
        outcome=builder.exited({"signed-up": form}) + builder.exited({"subscribed": form}),
    )


def onboarded(builder: ScenarioBuilder) -> plans.Step:
    """Logic `all`: the third goal completes."""
    moments = builder.rng.sample((3, 6, 9), 3)
    triggers = {
        "kick-off": builder.form("kick-off", moments[0]),
        "first-call": builder.appointment("onboarding", moments[1]),
        "won": builder.reaches("deals", "won", moments[2]),
    }
    in_time = dict(sorted(triggers.items(), key=lambda item: item[1].time))
    return builder.shuffled(builder.started("onboarding", 0), *triggers.values(), outcome=builder.exited(in_time))


def half_onboarded(builder: ScenarioBuilder) -> plans.Step:
    """Two of three: achieved, and no exit."""
    form, call = builder.form("kick-off", 3), builder.appointment("onboarding", 6)
    return builder.shuffled(
        builder.started("onboarding", 0),
        form,
        call,
        builder.appointment("sales", 7),
        outcome=builder.achieved({"kick-off": form, "first-call": call}),
    )


def answers(builder: ScenarioBuilder) -> plans.Step:
    """Logic `never`: each goal by its first event, in the order of time, source and id; the end is exclusive."""
    first, second = builder.form("survey", 5), builder.form("survey", 5)
    booked = builder.appointment("anything", 6)
    earliest = min(first, second, key=lambda each: (each.source, each.id))
    return builder.shuffled(
        builder.started("survey", 0),
        first,
        second,
        builder.form("survey", 7),
        booked,
        builder.ended("survey", 6.001),
        outcome=builder.achieved({"answered": earliest, "booked": booked}),
    )


def enrolled_earlier_than_first_said(builder: ScenarioBuilder) -> plans.Step:
    """Started twice: the earlier time stands."""
    form = builder.form("signup", 10)
    return builder.shuffled(
        builder.started("welcome", 20), builder.started("welcome", 5), form, outcome=builder.exited({"signed-up": form})
    )


def workflow_reopened(builder: ScenarioBuilder) -> plans.Step:
    """What happened in the pause doesn't count; what happens after it does."""
    ignored = builder.form("signup", builder.setup.since + tenant_setup.PAUSE / 2)
    form = builder.form("signup", 5)
    return builder.shuffled(
        builder.started("reopened", builder.setup.since),
        ignored,
        form,
        outcome=builder.exited({"reopened-signup": form}),
    )
