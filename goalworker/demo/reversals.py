"""Scenarios of what was undone later: refunded, failed, cancelled or rejected (contract rule 3.3).

An exit is sent as soon as it is due and stands, so most reversals wait in a second step until the exit is there.
"""

from goalworker.demo import plans
from goalworker.demo.scenario_builder import ScenarioBuilder, counted
from goalworker.domain import events


def refunded(builder: ScenarioBuilder) -> plans.Step:
    """A whole refund, at once or in two parts: the achievement is revoked, the exit remains."""
    paid = builder.payment("120.50", "EUR", ["pro-plan"], 5)
    before = builder.exited({"bought": paid})
    after = plans.Outcome(exited=before.exited) + builder.paid("checkout", paid, back="120.50")
    after += builder.revocable("reversed", "bought")
    whole = [builder.refund(paid, 10)]
    parts = [builder.refund(paid, 10, "120", "EUR"), builder.refund(paid, 11, "0.50", "eur")]
    late = builder.shuffled(*builder.rng.choice((whole, parts)), outcome=after)
    before += builder.paid("checkout", paid)
    return builder.shuffled(builder.started("checkout", 0), paid, outcome=before, then=late)


def partly_refunded(builder: ScenarioBuilder) -> plans.Step:
    """Refunds that do not add up to the payment: one comes twice, one has another currency, and one is a test."""
    paid = builder.payment("120.50", "EUR", ["pro-plan"], 5)
    part = builder.refund(paid, 10, "60.25", "EUR")
    return builder.shuffled(
        builder.started("checkout", 0),
        paid,
        part,
        builder.again(part, 11),
        builder.refund(paid, 12, "120.50", "USD"),
        builder.test(builder.refund(paid, 13)),
        outcome=builder.exited({"bought": paid}) + builder.paid("checkout", paid, back="60.25"),
    )


def refund_comes_first(builder: ScenarioBuilder) -> plans.Step:
    """A refund that arrives before its payment, which then counts for nothing; paid again, it counts."""
    paid = builder.payment("99", "EUR", ["pro-plan"], 5)
    paid_again = builder.again(paid, 15)
    revenue = builder.paid("checkout", paid, back="99")
    anew = builder.in_order(paid_again, outcome=builder.exited({"bought": paid_again}) + revenue)
    undone = builder.shuffled(builder.started("checkout", 0), paid, outcome=revenue, then=anew, once="committed")
    return builder.in_order(builder.refund(paid, 10), then=undone, once="committed")


def debit_fails(builder: ScenarioBuilder) -> plans.Step:
    """A payment that fails after it was reported: the achievements of both goals are revoked, the exit remains."""
    paid = builder.payment("9.90", "EUR", ["pro-plan"], 5)
    before = builder.exited({"pro": paid, "any-purchase": paid})
    failure = builder.undone(events.PAYMENT_FAILED, paid, 10)
    after = plans.Outcome(exited=before.exited) + builder.paid("upsell", paid, back="9.90")
    after += builder.revocable("reversed", "pro", "any-purchase")
    late = builder.in_order(failure, outcome=after)
    before += builder.paid("upsell", paid)
    return builder.shuffled(builder.started("upsell", 0), paid, outcome=before, then=late)


def call_moved(builder: ScenarioBuilder) -> plans.Step:
    """A rescheduled appointment, whose former date is cancelled: nothing changes."""
    booked = builder.appointment("coaching", 5)
    outcome = builder.exited({"coached": booked})
    cancelled = builder.undone(events.APPOINTMENT_CANCELLED, booked, 11)
    # For a while, if the worker reads the cancellation first.
    moved = outcome + builder.revocable("reversed", "coached")
    late = builder.shuffled(builder.rebooked(booked, 10), cancelled, outcome=moved)
    return builder.shuffled(builder.started("coaching", 0), booked, outcome=outcome, then=late)


def call_cancelled(builder: ScenarioBuilder) -> plans.Step:
    """A cancelled appointment, at once or after it was rescheduled: the achievement is revoked, the exit remains."""
    booked = builder.appointment("coaching", 5)
    before = builder.exited({"coached": booked})
    moved = [builder.rebooked(booked, 10)] * builder.rng.randrange(2)
    cancelled = builder.undone(events.APPOINTMENT_CANCELLED, [booked, *moved][-1], 15)
    after = plans.Outcome(exited=before.exited) + builder.revocable("reversed", "coached")
    late = builder.shuffled(*moved, cancelled, outcome=after)
    return builder.shuffled(builder.started("coaching", 0), booked, outcome=before, then=late)


def form_rejected(builder: ScenarioBuilder) -> plans.Step:
    """A rejected form, sent once more afterwards: the later submission achieves the goal, without a second exit."""
    form, better = builder.form("application", 5), builder.form("application", 15)
    before = builder.exited({"applied": form})
    anew = builder.achieved({"applied": better}) + plans.Outcome(exited=before.exited)
    anew += builder.revocable("reversed", "applied")
    rejection = builder.undone(events.FORM_REJECTED, form, 10)
    late = builder.shuffled(rejection, better, outcome=anew)
    return builder.shuffled(builder.started("application", 0), form, outcome=before, then=late)


def order_returned(builder: ScenarioBuilder) -> plans.Step:
    """Four orders, the first of which is returned: the next ones count, in whatever order the messages come."""
    orders = [builder.payment("20", "EUR", ["mug"], time) for time in (1, 3, 5, 9)]
    return builder.shuffled(
        builder.started("shop", 0),
        *orders,
        builder.refund(orders[0], 7),
        outcome=builder.achieved({"ordered": orders[1], "regular": orders[3]}, counts={"regular": counted(3)})
        + builder.revocable("reversed", "ordered", "regular")
        + builder.paid("shop", orders[0], back="20")
        + builder.paid("shop", *orders[1:]),
    )
