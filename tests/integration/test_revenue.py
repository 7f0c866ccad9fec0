"""Revenue is gross, reversed and net of distinct payments, exactly as an analyst computes it from the stored rows."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events
from goalworker.domain.criteria import Criteria
from goalworker.postgres import connections
from goalworker.stores import stats
from tests.integration import analyst, world
from tests.integration.payment_stories import (
    ANY_PURCHASE,
    BIG,
    INSTALMENTS,
    KEPT,
    TENANT,
    TWICE,
    WORKFLOW,
    YEAR,
    Paid,
    Run,
    Story,
    TakenBack,
    at,
    store,
)


async def stats_of(
    pool: sa_async.AsyncEngine, span: analyst.Span = (None, None), *, tracking: bool = True
) -> dict[str, Any]:
    async with connections.tenant_transaction(pool, TENANT, "stats") as connection:
        return await stats.workflow_stats(connection, TENANT, WORKFLOW, *span, tracking=tracking)


async def revenue_of(pool: sa_async.AsyncEngine, administrator: connections.Connection, story: Story) -> dict[str, Any]:
    """Return the revenue of a story, after the analyst has confirmed it."""
    await store(administrator, story)
    answer = await stats_of(pool)
    analyst.assert_agrees(answer, await analyst.numbers(administrator, TENANT, WORKFLOW, (None, None), tracking=True))
    revenue: dict[str, Any] = answer["revenue"]
    return revenue


def of(gross: str, taken_back: str, net: str, currency: str = "EUR") -> dict[str, dict[str, str]]:
    return {currency: {"gross": gross, "reversed": taken_back, "net": net}}


# --- generated stories ---

_MINUTES = st.integers(0, 12)
_CONTACTS = st.sampled_from(("ann", "ann", "ann", "bob"))
_PAYMENTS = st.sampled_from(("p1", "p1", "p2", "p3"))
_AMOUNTS = st.sampled_from(("0", "0.00", "49.90", "50", "300", "0.000000000000000001", "1000000000000000"))
_CURRENCIES = st.sampled_from(("EUR", "EUR", "eur", "USD"))
_REFUNDED = st.tuples(_AMOUNTS, _CURRENCIES) | st.just((None, None))

_STORIES = st.builds(
    Story,
    goals_criteria=st.lists(st.sampled_from((ANY_PURCHASE, BIG, TWICE, KEPT, INSTALMENTS)), min_size=1, max_size=3),
    paid=st.lists(st.builds(Paid, _MINUTES, _PAYMENTS, _AMOUNTS, _CURRENCIES, _CONTACTS), min_size=1, max_size=8).map(
        lambda paid: [replace(one, id=f"event {len(paid) - number}") for number, one in enumerate(paid)]
    ),
    taken_back=st.lists(
        st.builds(
            lambda minute, payment_id, refunded, refund_id, contact_id: TakenBack(
                minute, payment_id, refunded[0], refunded[1], refund_id, contact_id
            ),
            _MINUTES,
            _PAYMENTS,
            _REFUNDED,
            st.sampled_from((None, "r1", "r2")),
            _CONTACTS,
        )
        | st.builds(TakenBack, _MINUTES, _PAYMENTS, contact_id=_CONTACTS, type=st.just(events.PAYMENT_FAILED)),
        max_size=4,
    ),
    runs=st.lists(st.builds(Run, st.sampled_from((0, 0, 2, 4.5)), _CONTACTS), min_size=1, max_size=4),
    logic=st.sampled_from(("never", "never", "all", "any")),
)


@world.examples(200)
@given(story=_STORIES, cuts=st.lists(_MINUTES.map(at), max_size=2), tracking=st.booleans())
async def test_revenue_equals_that_computed_from_every_row(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    story: Story,
    cuts: list[datetime],
    tracking: bool,
) -> None:
    await world.clear(administrator)
    await store(administrator, story, tracking=tracking)
    for span in analyst.spans([None, *cuts]):
        expected = await analyst.numbers(administrator, TENANT, WORKFLOW, span, tracking=tracking)
        analyst.assert_agrees(await stats_of(pool, span, tracking=tracking), expected)


# --- by hand ---


@pytest.mark.real_world("matomo#11615", "the revenue of an order that was refunded is still reported")
async def test_a_refunded_payment_is_gross_revenue_and_no_net_revenue(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    story = Story([ANY_PURCHASE], [Paid(1, "p1")], [TakenBack(5, "p1")])
    assert await revenue_of(pool, administrator, story) == of("49.90", "49.90", "0.00")
    answer = await stats_of(pool)
    assert (answer["goals_achieved"], answer["enrollments_converted"]) == (0, 0)
    assert answer["by_goal"][0]["revenue"] == of("49.90", "49.90", "0.00")


@pytest.mark.real_world("be-BOP#770", "the revenue of an order that is paid in parts")
async def test_every_instalment_up_to_the_sum_is_revenue(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    paid = [Paid(minute, f"rate {minute}", "100") for minute in (1, 2, 3, 4)]
    story = Story([INSTALMENTS], paid, logic="any")
    assert await revenue_of(pool, administrator, story) == of("300", "0", "300")
    assert (await stats_of(pool))["goals_achieved"] == 1


async def test_a_refunded_instalment_lowers_the_revenue_of_the_others(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    paid = [Paid(minute, f"rate {minute}", "100.00") for minute in (1, 2, 3)]
    story = Story([INSTALMENTS], paid, [TakenBack(9, "rate 2")])
    assert await revenue_of(pool, administrator, story) == of("300.00", "100.00", "200.00")


@pytest.mark.parametrize(
    ("taken_back", "expected"),
    [
        ([TakenBack(2, "p1", "9.90", "EUR")], of("49.90", "9.90", "40.00")),
        ([TakenBack(2, "p1", "9.905", "eur")], of("49.90", "9.905", "39.995")),
        ([TakenBack(2, "p1", "60", "EUR")], of("49.90", "49.90", "0.00")),
        ([TakenBack(2, "p1", "49.90", "USD")], of("49.90", "0.00", "49.90")),
        (
            [TakenBack(2, "p1", "9.90", "EUR", "r1"), TakenBack(3, "p1", "9.90", "EUR", "r1")],
            of("49.90", "9.90", "40.00"),
        ),
        (
            [TakenBack(2, "p1", "9.90", "EUR", "r1"), TakenBack(3, "p1", "9.90", "EUR", "r2")],
            of("49.90", "19.80", "30.10"),
        ),
        ([TakenBack(2, "p1", type=events.PAYMENT_FAILED)], of("49.90", "49.90", "0.00")),
        ([TakenBack(0.5, "p1", "9.90", "EUR")], of("49.90", "0.00", "49.90")),
        ([TakenBack(2, "p1", contact_id="bob")], of("49.90", "0.00", "49.90")),
    ],
)
async def test_what_was_taken_back_since_is_reversed(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    taken_back: list[TakenBack],
    expected: dict[str, Any],
) -> None:
    assert await revenue_of(pool, administrator, Story([ANY_PURCHASE], [Paid(1, "p1")], taken_back)) == expected


async def test_a_payment_counts_once_however_many_goals_and_enrollments_it_met(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    paid = [Paid(3, "p1", "60"), Paid(4, "p1", "70"), Paid(5, "p2", "80.25", "usd", "bob")]
    runs = [Run(0), Run(1), Run(3.5), Run(0, "bob")]
    story = Story([ANY_PURCHASE, BIG], paid, runs=runs)
    assert await revenue_of(pool, administrator, story) == of("60", "0", "60") | of("80.25", "0.00", "80.25", "USD")
    for goal in (await stats_of(pool))["by_goal"]:
        assert goal["revenue"] == of("60", "0", "60") | of("80.25", "0.00", "80.25", "USD")


async def test_a_payment_is_as_the_earliest_event_of_the_goal_says(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    paid = [Paid(1, "p1", "20"), Paid(2, "p1", "70", "USD")]
    assert await revenue_of(pool, administrator, Story([ANY_PURCHASE, BIG], paid)) == of("20", "0", "20")
    small, big = (await stats_of(pool))["by_goal"]
    assert (small["revenue"], big["revenue"]) == (of("20", "0", "20"), of("70", "0", "70", "USD"))


async def test_equal_payment_ids_of_two_contacts_are_two_payments(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    paid = [Paid(1, "p1"), Paid(1, "p1", contact_id="bob")]
    story = Story([ANY_PURCHASE], paid, runs=[Run(), Run(contact_id="bob")])
    assert await revenue_of(pool, administrator, story) == of("99.80", "0.00", "99.80")


async def test_a_deleted_goal_with_reversed_payments_only_is_shown(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await store(administrator, Story([ANY_PURCHASE], [Paid(1, "p1")], [TakenBack(5, "p1")]))
    await administrator.execute("UPDATE goals SET deleted_at = now()")
    answer = await stats_of(pool)
    assert [goal["revenue"] for goal in answer["by_goal"]] == [of("49.90", "49.90", "0.00")]
    assert (answer["goals_achieved"], answer["revenue"]) == (0, of("49.90", "49.90", "0.00"))


async def test_sums_are_exact_however_many_digits_they_have(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    largest, smallest = "1000000000000000", "0.000000000000000001"
    paid = [Paid(n, f"p{n}", largest) for n in range(1, 4)] + [Paid(5, "p5", smallest)]
    story = Story([Criteria(times=4, within=YEAR)], paid, [TakenBack(9, "p5"), TakenBack(9, "p1", smallest, "EUR")])
    assert await revenue_of(pool, administrator, story) == of(
        "3000000000000000.000000000000000001", "0.000000000000000002", "2999999999999999.999999999999999999"
    )


async def test_an_event_of_a_whole_second_counts_for_the_span_of_its_enrollment(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    half_a_second = 0.5 / 60
    await store(administrator, Story([ANY_PURCHASE], [Paid(1, "p1")], runs=[Run(1 + half_a_second)]))
    answer = await stats_of(pool, (at(1 + half_a_second / 2), None))
    assert (answer["total_enrolled"], answer["goals_achieved"]) == (1, 1)
    assert answer["revenue"] == of("49.90", "0.00", "49.90")


async def test_without_tracking_the_span_selects_payments_by_their_time(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    paid = [Paid(minute, f"rate {minute}", "100") for minute in (1, 2, 3)]
    await store(administrator, Story([INSTALMENTS], paid, [TakenBack(9, "rate 2")]), tracking=False)
    for since, until, expected in (
        (None, at(2), of("100", "0", "100")),
        (at(2), at(3), of("100", "100", "0")),
        (at(2), None, of("200", "100", "100")),
        (at(4), None, {}),
    ):
        assert (await stats_of(pool, (since, until), tracking=False))["revenue"] == expected
