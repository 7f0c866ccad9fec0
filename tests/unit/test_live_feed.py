"""The live feed: each subscriber gets each effect of its tenant once, from one poll for all."""

import asyncio
import gc
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from goalworker.api import live_feed
from goalworker.domain import messages
from goalworker.stores.recent_effects import Effect, Recent

START = datetime(2026, 5, 1, tzinfo=UTC)


def effect(number: int, seconds: float, tenant_id: str = "north") -> Effect:
    """Return an exit that was recorded some seconds after the start."""
    data = messages.ExitGoal(
        UUID(int=number), "w1", f"e{number}", "c1", "goal_achieved", "any", UUID(int=1), "tag_added", [], START
    )
    return Effect(tenant_id, "exit", START + timedelta(seconds=seconds), data)


class Database:
    """Recorded effects, and a clock that a test moves."""

    def __init__(self) -> None:
        self.time = START
        self.effects: list[Effect] = []
        self.reads: list[Collection[str]] = []
        self.error: Exception | None = None

    async def now(self) -> datetime:
        return self.time

    async def read(self, tenant_ids: Collection[str], since: datetime, most: int) -> Recent:
        if self.error is not None:
            raise self.error
        self.reads.append(tuple(tenant_ids))
        found = [one for one in self.effects if one.tenant_id in tenant_ids and one.recorded_at > since]
        return Recent(self.time, tuple(sorted(found, key=lambda one: one.recorded_at)[-most:]))


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def feed(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[live_feed.LiveFeed]:
    """A feed that polls only when a test does so."""
    monkeypatch.setattr(live_feed, "POLL_SECONDS", 3_600.0)
    feed = live_feed.LiveFeed(database)
    yield feed
    if feed._polling is not None:
        feed._polling.cancel()


async def poll(feed: live_feed.LiveFeed, database: Database, seconds: float) -> None:
    database.time = START + timedelta(seconds=seconds)
    await feed._poll()


def taken(subscription: live_feed.Subscription) -> list[int]:
    """Return the numbers of the exits that wait for a client, and 0 for each gap."""
    events = b"".join(subscription._chunks).decode().split("\n\n")[:-1]
    subscription._chunks.clear()
    return [
        0 if event.startswith("event: gap") else int(event.split('"exit_id":"')[1][:36][-12:], 16) for event in events
    ]


# --- one poll for all ---


async def test_each_subscriber_gets_each_effect_of_its_tenant_once(
    feed: live_feed.LiveFeed, database: Database
) -> None:
    one, other, foreign = [await feed.subscribe(tenant_id) for tenant_id in ("north", "north", "south")]
    database.effects += [effect(1, 0.5), effect(2, 0.7, "south"), effect(3, 0.9)]
    for seconds in (1, 2, 3, 4, 5):
        await poll(feed, database, seconds)
    assert (taken(one), taken(other), taken(foreign)) == ([1, 3], [1, 3], [2])


async def test_two_hundred_subscribers_cost_one_reading_and_one_encoding(
    feed: live_feed.LiveFeed, database: Database
) -> None:
    subscriptions = [await feed.subscribe("north") for _ in range(200)]
    database.effects.append(effect(1, 0.5))
    database.reads.clear()
    await poll(feed, database, 1)
    assert database.reads == [("north",)]
    (first, *others) = [subscription._chunks[0] for subscription in subscriptions]
    assert all(chunk is first for chunk in others)


async def test_what_was_there_before_is_no_news(feed: live_feed.LiveFeed, database: Database) -> None:
    database.effects += [effect(1, -1), effect(2, 0)]
    subscription = await feed.subscribe("north")
    await poll(feed, database, 1)
    assert taken(subscription) == []


async def test_an_effect_that_was_committed_late_is_shown(feed: live_feed.LiveFeed, database: Database) -> None:
    subscription = await feed.subscribe("north")
    await poll(feed, database, 1)
    database.effects.append(effect(1, 0.5))
    await poll(feed, database, 2)
    assert taken(subscription) == [1]


async def test_of_a_flood_the_newest_are_shown_after_a_gap(feed: live_feed.LiveFeed, database: Database) -> None:
    subscription = await feed.subscribe("north")
    database.effects += [effect(number, number / 1_000) for number in range(1, 301)]
    await poll(feed, database, 1)
    assert taken(subscription) == [0, *range(101, 301)]


async def test_a_client_that_reads_slowly_keeps_the_newest_and_learns_of_the_gap(
    feed: live_feed.LiveFeed, database: Database
) -> None:
    subscription = await feed.subscribe("north")
    for number in range(1, live_feed.QUEUE_MAX + 3):
        database.effects.append(effect(number, number))
        await poll(feed, database, number)
    assert taken(subscription) == [0, *range(3, live_feed.QUEUE_MAX + 3)]


# --- clients that come back ---


async def test_a_client_that_comes_back_gets_what_it_missed_once(feed: live_feed.LiveFeed, database: Database) -> None:
    stayed = await feed.subscribe("north")
    database.effects += [effect(1, 0.5), effect(2, 1.5), effect(3, 8)]
    for seconds in (1, 2, 10):
        await poll(feed, database, seconds)
    database.effects.append(effect(4, 10.5))
    database.time = START + timedelta(seconds=11)
    back = await feed.subscribe("north", str(int((START + timedelta(seconds=0.5)).timestamp() * 1e6)))
    await poll(feed, database, 12)
    assert taken(back) == taken(stayed)[1:] == [2, 3, 4]


async def test_the_first_client_back_after_a_restart_gets_what_it_missed_once(
    feed: live_feed.LiveFeed, database: Database
) -> None:
    database.effects += [effect(1, -30), effect(2, -20), effect(3, -1)]
    back = await feed.subscribe("north", str(int((START - timedelta(seconds=30)).timestamp() * 1e6)))
    await poll(feed, database, 1)
    assert taken(back) == [2, 3]


async def test_who_was_away_too_long_learns_of_the_gap(feed: live_feed.LiveFeed, database: Database) -> None:
    database.effects += [effect(1, -700), effect(2, -500)]
    back = await feed.subscribe("north", str(int((START - timedelta(seconds=800)).timestamp() * 1e6)))
    assert taken(back) == [0, 2]


@pytest.mark.parametrize("foreign", ["", "x", "-1", "1.5", "\u0661", "9" * 18, None])
async def test_an_id_that_is_none_of_ours_begins_now(
    feed: live_feed.LiveFeed, database: Database, foreign: str | None
) -> None:
    database.effects.append(effect(1, -1))
    assert taken(await feed.subscribe("north", foreign)) == []


# --- limits, ends ---


async def test_a_tenant_has_a_limit_and_leaves_room_for_others(
    feed: live_feed.LiveFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_feed, "SUBSCRIBERS_OF_TENANT_MAX", 2)
    monkeypatch.setattr(live_feed, "SUBSCRIBERS_MAX", 3)
    own = [await feed.subscribe("north") for _ in range(2)]
    with pytest.raises(live_feed.TooManySubscribersError):
        await feed.subscribe("north")
    other = await feed.subscribe("south")
    with pytest.raises(live_feed.TooManySubscribersError):
        await feed.subscribe("east")
    feed.unsubscribe("north", own[0])
    assert await feed.subscribe("east") is not other


async def test_a_client_that_is_gone_before_its_stream_began_is_forgotten(feed: live_feed.LiveFeed) -> None:
    await feed.subscribe("north")
    gc.collect()
    assert sum(map(len, feed._subscriptions.values())) == 0


async def test_a_closed_feed_ends_its_streams_after_what_is_there(feed: live_feed.LiveFeed, database: Database) -> None:
    subscription = await feed.subscribe("north")
    database.effects.append(effect(1, 0.5))
    await poll(feed, database, 1)
    feed.close()
    chunks = [chunk async for chunk in subscription.chunks()]
    assert chunks[0].startswith(b"retry:")
    assert len(chunks) == 2
    assert [chunk async for chunk in (await feed.subscribe("north")).chunks()][1:] == []


async def test_a_stream_without_news_has_heartbeats_and_ends_in_time(
    feed: live_feed.LiveFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_feed, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(live_feed, "LIFETIME_SECONDS", 0.05)
    subscription = await feed.subscribe("north")
    chunks = [chunk async for chunk in subscription.chunks()]
    assert set(chunks[1:]) == {b":\n\n"}


async def test_a_failed_poll_ends_the_streams_and_the_next_client_begins_a_new_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_feed, "POLL_SECONDS", 0.0)
    feed = live_feed.LiveFeed(database)
    subscription = await feed.subscribe("north")
    database.error = OSError("away")
    chunks = [chunk async for chunk in subscription.chunks()]
    assert len(chunks) == 1
    with pytest.raises(OSError, match="away"):
        await feed.subscribe("north")
    database.error = None
    subscription = await feed.subscribe("north")
    database.effects.append(effect(1, 0.5))
    stream: Any = subscription.chunks()
    await anext(stream)
    assert b"event: exit\nid: 1777593600500000\ndata: {" in await anext(stream)
    feed.unsubscribe("north", subscription)
    async with asyncio.timeout(10):
        assert feed._polling is not None
        await feed._polling


async def test_further_subscribers_of_a_tenant_ask_the_database_nothing(
    feed: live_feed.LiveFeed, database: Database
) -> None:
    first = await feed.subscribe("north")
    database.reads.clear()
    database.error = OSError("not asked")
    assert await feed.subscribe("north") is not first
    assert database.reads == []


async def test_of_many_clients_at_once_one_has_the_database_read(feed: live_feed.LiveFeed, database: Database) -> None:
    subscriptions = await asyncio.gather(*(feed.subscribe("north") for _ in range(50)))
    assert len(set(subscriptions)) == 50
    assert database.reads == [("north",)]
