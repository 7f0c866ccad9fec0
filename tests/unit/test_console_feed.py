"""Entries of the console's live feed: escaped, masked, one event for each poll."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from goalworker.api import live_feed
from goalworker.console import contact_links, feed, installation
from goalworker.domain import messages
from goalworker.stores.recent_effects import Effect
from tests.unit.test_live_feed import Database

START = datetime(2026, 5, 1, tzinfo=UTC)
LINKS = contact_links.Links(installation.derive(b"secret"), "north", "/goals")
HOSTILE = "\"><script>alert('x')</script>/\u202e\u2028%2F& ..\U0001f600"


def exit_of(number: int, contact_id: str = "contact-0001", workflow_id: str = "welcome") -> Effect:
    data = messages.ExitGoal(
        UUID(int=number), workflow_id, "e", contact_id, "goal_achieved", "any", UUID(int=1), "tag_added", [], START
    )
    return Effect("north", "exit", START + timedelta(seconds=number), data)


def data_of(event: bytes) -> str:
    """Return the data of the only event in these bytes."""
    (only,) = event.decode().removesuffix("\n\n").split("\n\n")
    return "\n".join(line.removeprefix("data: ") for line in only.split("\n") if line.startswith("data: "))


def test_the_effects_of_a_poll_are_one_event_with_the_newest_first() -> None:
    event = feed.Entries(LINKS).encode([exit_of(1, workflow_id="first"), exit_of(2, workflow_id="second")])
    assert event.startswith(b"id: %d\n" % live_feed.event_id(START + timedelta(seconds=2)))
    entries = data_of(event)
    assert entries.count("<li") == 2
    assert entries.index("/goals/console/workflows/second") < entries.index("/goals/console/workflows/first")


def test_an_entry_masks_the_contact_and_links_to_it_by_its_token() -> None:
    entries = data_of(feed.Entries(LINKS).encode([exit_of(1)]))
    assert "contact-0001" not in entries
    assert f'href="{LINKS.address("contact-0001")}"' in entries


def test_hostile_ids_are_text_in_entries() -> None:
    entries = data_of(feed.Entries(LINKS).encode([exit_of(1, HOSTILE, HOSTILE)]))
    assert "<script" not in entries
    assert entries.count("<li") == entries.count("</li>") == 1


def test_of_a_flood_no_more_entries_are_sent_than_the_page_keeps() -> None:
    entries = data_of(feed.Entries(LINKS).encode([exit_of(number) for number in range(200)]))
    assert entries.count("<li") == feed.SHOWN


def test_gaps_and_heartbeats_are_events_that_scripts_see() -> None:
    assert "<li" in data_of(feed.Entries(LINKS).gap)
    assert feed.Entries(LINKS).heartbeat == b"event: alive\ndata:\n\n"


async def test_pages_of_a_tenant_share_their_entries_and_leave_the_api_its_json() -> None:
    source = Database()
    shared = live_feed.LiveFeed(source)
    # Each request makes links of its own.
    pages = [
        await shared.subscribe("north", encoding=feed.Entries(contact_links.Links(LINKS.keys, "north", "/goals")))
        for _ in range(200)
    ]
    program = await shared.subscribe("north")
    source.effects.append(exit_of(1))
    source.time = START + timedelta(seconds=2)
    await shared._poll()
    first, *others = [page._chunks[0] for page in pages]
    assert all(chunk is first for chunk in others)
    assert b"<li" in first
    assert program._chunks[0].startswith(b"event: exit\n")
    shared.close()
