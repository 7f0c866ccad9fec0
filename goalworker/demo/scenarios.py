"""Scenarios of one contact, each with the outcome that it must have in whatever order the worker reads its records.

Each outcome is written next to its events; nothing here calls the code under test.
"""

from datetime import timedelta

from goalworker.demo import plans, tenant_setup
from goalworker.demo.scenario_builder import ScenarioBuilder

# --- without an outcome ---


def stranger(builder: ScenarioBuilder) -> plans.Step:
    """Hits of a contact who is not enrolled."""
    return builder.in_order(builder.form("signup", 0), builder.payment("99", "EUR", ["pro-plan"], 1))


def passer_by(builder: ScenarioBuilder) -> plans.Step:
    """Events that match no goal, of a contact who is not enrolled."""
    return builder.in_order(
        builder.form("contact-us", 0), builder.appointment("sales", 1), builder.stage_reached("deals", "lost", 2)
    )


def tried_out(builder: ScenarioBuilder) -> plans.Step:
    """An event that its sender marks as a test."""
    return builder.shuffled(builder.started("welcome", 0), builder.test(builder.form("signup", 1)))


def other_form(builder: ScenarioBuilder) -> plans.Step:
    return builder.shuffled(
        builder.started("welcome", 0), builder.form("Signup", 1), builder.form("signup ", 2), builder.form("survey", 3)
    )


def not_quite_bought(builder: ScenarioBuilder) -> plans.Step:
    """A wrong product, a wrong currency, an amount too low in its last digit, and another tag with the right name."""
    return builder.shuffled(
        builder.started("checkout", 0),
        builder.payment("1000", "EUR", ["basic-plan"], 1),
        builder.payment("50", "USD", ["pro-plan"], 2),
        builder.payment("49.989999999999999999", "EUR", ["pro-plan"], 3),
        builder.tag(4, tag_id="tag-gold", tag_name="VIP"),
    )


def not_quite_won(builder: ScenarioBuilder) -> plans.Step:
    return builder.shuffled(
        builder.started("onboarding", 0),
        builder.stage_reached("deals", "proposal", 1),
        builder.stage_reached("hiring", "won", 2),
        builder.stage_reached("deals", "won", 3, previous_stage_id="won"),
    )


def too_early(builder: ScenarioBuilder) -> plans.Step:
    """An event one microsecond before the enrollment."""
    return builder.shuffled(builder.form("signup", 4.999), builder.started("welcome", 5))


def before_the_goal(builder: ScenarioBuilder) -> plans.Step:
    """An event older than the goal, though after the enrollment: goals are never retroactive."""
    old = builder.setup.since - timedelta(seconds=60)
    return builder.shuffled(builder.started("welcome", old - timedelta(seconds=60)), builder.form("signup", old))


def too_late(builder: ScenarioBuilder) -> plans.Step:
    """Events at and after the known end, which is exclusive."""
    after = builder.in_order(builder.form("signup", 10), builder.form("signup", 11))
    return builder.in_order(builder.started("welcome", 0), builder.ended("welcome", 10), then=after, once="committed")


def ended_twice(builder: ScenarioBuilder) -> plans.Step:
    """Two ends, of which the earlier one counts; logic `never` sends no exit that could depend on the order."""
    return builder.shuffled(
        builder.started("survey", 0),
        builder.form("survey", 10),
        builder.ended("survey", 20),
        builder.ended("survey", 8),
        outcome=builder.revocable("after_end", "answered"),
    )


def other_tenant(builder: ScenarioBuilder) -> plans.Step:
    """The same contact id in another tenant, which is another contact."""
    builder.contact_id = f"traveller-{builder.tenant_id}-{builder.number}"
    start = builder.started("welcome", 0)
    others = [tenant for tenant in builder.setup.tenants if tenant != builder.tenant_id]
    builder.tenant_id = builder.rng.choice(others or ["nobody"])
    return builder.shuffled(start, builder.form("signup", 1))


# --- with an outcome ---


def signs_up(builder: ScenarioBuilder) -> plans.Step:
    """An event at the time of the enrollment, which is inclusive, or later."""
    form = builder.form("signup", builder.rng.choice((0, 5)))
    return builder.shuffled(
        builder.started("welcome", 0), form, builder.form("survey", 1), outcome=builder.exited({"signed-up": form})
    )


def enrolled_long_ago(builder: ScenarioBuilder) -> plans.Step:
    """An enrollment older than the goal, with a younger event."""
    form = builder.form("signup", 0)
    start = builder.started("welcome", builder.setup.since - timedelta(seconds=60))
    return builder.shuffled(start, form, outcome=builder.exited({"signed-up": form}))


def tagged_by_name(builder: ScenarioBuilder) -> plans.Step:
    """A tag name that differs only in surrounding blanks, case or full-width letters, which are normalised."""
    name = builder.rng.choice(("Customer", "  customer ", "ＣＵＳＴＯＭＥＲ"))  # noqa: RUF001 - full width
    tag = builder.tag(5, tag_name=name)
    return builder.shuffled(
        builder.started("welcome", 0),
        builder.tag(2, tag_name="Customers"),
        tag,
        outcome=builder.exited({"customer": tag}),
    )


def tagged_by_id(builder: ScenarioBuilder) -> plans.Step:
    """A tag with the goal's id and another name: where both have one, the name does not count."""
    tag = builder.tag(5, tag_id="tag-vip", tag_name="renamed")
    return builder.shuffled(builder.started("checkout", 0), tag, outcome=builder.exited({"vip": tag}))


def buys(builder: ScenarioBuilder) -> plans.Step:
    """A purchase of at least the minimum, after purchases that do not match."""
    paid = builder.payment(builder.rng.choice(("49.99", "50", "120")), "eur", ["x", "pro-plan"], 9)
    return builder.shuffled(
        builder.started("checkout", 0),
        builder.payment("49.98", "EUR", ["pro-plan"], 1),
        builder.payment("49.99", "CHF", ["pro-plan"], 2),
        paid,
        outcome=builder.exited({"bought": paid}) + builder.paid("checkout", paid),
    )


def buys_for_two_goals(builder: ScenarioBuilder) -> plans.Step:
    """One event that achieves both goals of a workflow; the older goal completes it."""
    paid = builder.payment("0", "JPY", ["pro-plan"], 3)
    outcome = builder.exited({"pro": paid, "any-purchase": paid}) + builder.paid("upsell", paid)
    return builder.shuffled(builder.started("upsell", 0), paid, outcome=outcome)


def in_two_workflows(builder: ScenarioBuilder) -> plans.Step:
    form = builder.form("signup", 3)
    return builder.shuffled(
        builder.started("welcome", 0),
        builder.started("newsletter", 1),
        form,
        outcome=builder.exited({"signed-up": form}) + builder.exited({"subscribed": form}),
    )


def onboarded(builder: ScenarioBuilder) -> plans.Step:
    """Logic `all`: the third goal completes the workflow."""
    moments = builder.rng.sample((3, 6, 9), 3)
    triggers = {
        "kick-off": builder.form("kick-off", moments[0]),
        "first-call": builder.appointment("onboarding", moments[1]),
        "won": builder.stage_reached("deals", "won", moments[2]),
    }
    in_time = dict(sorted(triggers.items(), key=lambda item: item[1].time))
    return builder.shuffled(builder.started("onboarding", 0), *triggers.values(), outcome=builder.exited(in_time))


def half_onboarded(builder: ScenarioBuilder) -> plans.Step:
    """Logic `all`: two achievements of three goals, and no exit."""
    form, call = builder.form("kick-off", 3), builder.appointment("onboarding", 6)
    return builder.shuffled(
        builder.started("onboarding", 0),
        form,
        call,
        builder.appointment("sales", 7),
        outcome=builder.achieved({"kick-off": form, "first-call": call}),
    )


def answers(builder: ScenarioBuilder) -> plans.Step:
    """Logic `never`: each goal is achieved by its first event in order of time, source and id, before the end."""
    first, second = builder.form("survey", 5), builder.form("survey", 5)
    booked = builder.appointment("anything", 6)
    earliest = min(first, second, key=lambda event: (event.source, event.id))
    return builder.shuffled(
        builder.started("survey", 0),
        first,
        second,
        builder.form("survey", 7),
        booked,
        builder.ended("survey", 6.001),
        outcome=builder.achieved({"answered": earliest, "booked": booked}) + builder.revocable("after_end", "answered"),
    )


def started_twice(builder: ScenarioBuilder) -> plans.Step:
    """Two starts of one enrollment, of which the earlier one counts."""
    form = builder.form("signup", 10)
    return builder.shuffled(
        builder.started("welcome", 20), builder.started("welcome", 5), form, outcome=builder.exited({"signed-up": form})
    )


def to_the_second(builder: ScenarioBuilder) -> plans.Step:
    """An event whose sender cuts its time to the second: it counts for an enrollment that starts within that second."""
    second = builder.begins.replace(microsecond=0)
    form = builder.form("signup", second if second >= builder.setup.since else builder.begins)
    return builder.shuffled(builder.started("welcome", 0), form, outcome=builder.exited({"signed-up": form}))


def workflow_paused(builder: ScenarioBuilder) -> plans.Step:
    """An event in a pause without end: an achievement, and no exit."""
    form = builder.form("signup", 1)
    return builder.shuffled(builder.started("paused", 0), form, outcome=builder.achieved({"paused-signup": form}))


def workflow_reopened(builder: ScenarioBuilder) -> plans.Step:
    """An event in a pause that is over: an exit, as if there had been no pause; an event after it changes nothing."""
    form = builder.form("signup", builder.setup.since + tenant_setup.PAUSE / 2)
    outcome = builder.exited({"reopened-signup": form})
    again = builder.in_order(builder.form("signup", 5), outcome=outcome)
    return builder.shuffled(builder.started("reopened", builder.setup.since), form, outcome=outcome, then=again)
