"""Scenarios in which it matters of which occurrence an event is, and how many there were (contract section 3)."""

from goalworker.demo import plans
from goalworker.demo.scenario_builder import ScenarioBuilder, counted


def paid_once_told_twice(builder: ScenarioBuilder) -> plans.Step:
    """A payment that two systems report, each under an id of its own: two orders, of which the goal asks three."""
    first, second = builder.payment("20", "EUR", ["mug"], 1), builder.payment("30", "EUR", ["hat"], 5)
    return builder.shuffled(
        builder.started("shop", 0),
        first,
        builder.again(first, 3),
        second,
        builder.again(second, 7),
        outcome=builder.achieved({"ordered": first}) + builder.paid("shop", first),
    )


def orders_three_times(builder: ScenarioBuilder) -> plans.Step:
    """A goal with `times`: the third order achieves it, told twice or not."""
    orders = [builder.payment("20", "EUR", ["mug"], time) for time in (1, 3, 7)]
    return builder.shuffled(
        builder.started("shop", 0),
        *orders,
        builder.again(orders[1], 5),
        builder.payment("20", "EUR", ["mug"], 9),
        outcome=builder.achieved({"ordered": orders[0], "regular": orders[2]}, counts={"regular": counted(3)})
        + builder.paid("shop", *orders),
    )


def pays_in_instalments(builder: ScenarioBuilder) -> plans.Step:
    """A goal with `total_amount`: the payment that reaches it, to the cent, achieves it."""
    instalments = [
        builder.payment(amount, "EUR", [], time) for amount, time in (("100", 1), ("99.99", 3), ("100.01", 7))
    ]
    return builder.shuffled(
        builder.started("instalments", 0),
        *instalments,
        builder.payment("300", "USD", [], 2),
        outcome=builder.exited({"paid-in-full": instalments[2]}, counts={"paid-in-full": counted(3, "300")})
        + builder.paid("instalments", *instalments),
        needed=instalments,
    )


def stops_paying(builder: ScenarioBuilder) -> plans.Step:
    """Instalments one cent short of the total, one of which is told twice."""
    first = builder.payment("199.99", "EUR", [], 1)
    return builder.shuffled(
        builder.started("instalments", 0), first, builder.again(first, 3), builder.payment("100", "EUR", [], 5)
    )


def wins_one_of_two_deals(builder: ScenarioBuilder) -> plans.Step:
    """A contact with an enrollment for each of two deals: the one that is won exits, and a third deal concerns none."""
    won = builder.stage_reached("deals", "won", 7, deal_id=builder.deal_id("-a"))
    return builder.shuffled(
        builder.started("sales", 0, "-a", correlation_id=builder.deal_id("-a")),
        builder.started("sales", 1, "-b", correlation_id=builder.deal_id("-b")),
        builder.stage_reached("deals", "won", 3),
        builder.stage_reached("deals", "won", 5, deal_id=builder.deal_id("-c")),
        won,
        outcome=builder.exited({"deal-won": won}, "-a"),
    )


def enrolled_by_the_form(builder: ScenarioBuilder) -> plans.Step:
    """A form that starts the enrollment, told twice: it does not count, and the next submission does."""
    founding, next_one = builder.form("signup", 0), builder.form("signup", 9)
    started_by = {"source": founding.source, "id": founding.id}
    start = builder.started("newsletter", 0, started_by=started_by)
    later = builder.shuffled(builder.again(founding, 4), next_one, outcome=builder.exited({"subscribed": next_one}))
    return builder.shuffled(start, founding, then=later, once="committed")
