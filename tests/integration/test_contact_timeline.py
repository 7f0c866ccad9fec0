"""A contact's timeline is read in pages, as the API may read it: each entry once, newest first, by indexes."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events, ids, timelines
from goalworker.domain.timelines import Entry, Page, Position
from goalworker.postgres import connections
from goalworker.stores import contact_timeline
from goalworker.stores.achievements import CursorError, encode_cursor
from tests.integration import kept_events, statements, world
from tests.integration.scenes import ONE, TENANT, TWO, ended, failed, paid, purchase, refunded, started, tagged
from tests.kit.strategies import at

MANY = 20_000
OF_FIRST_WORKFLOW = {"workflow_id": "w1"}


async def _read(pool: sa_async.AsyncEngine, entries_max: int = 100, **of: Any) -> Page:
    asked = {"tenant_id": TENANT, "contact_id": "c1", **of}
    async with connections.tenant_transaction(pool, asked["tenant_id"], "timeline") as connection:
        driver = await connections.driver_of(connection)
        known = await contact_timeline.workflows_of(driver, asked["tenant_id"], asked["contact_id"])
        given = contact_timeline.Asked(**{"searched": known.searched, **asked})
        return await contact_timeline.read(driver, given, entries_max)


async def _read_all(pool: sa_async.AsyncEngine, entries_max: int, **of: Any) -> list[Entry]:
    page = await _read(pool, entries_max, **of)
    found = [*page.entries]
    while page.before is not None:
        before = contact_timeline.position_of(contact_timeline.cursor_of(page.before))
        page = await _read(pool, entries_max, **of, before=before)
        assert page.entries
        found += page.entries
    return found


@pytest.fixture
async def lived(pool: sa_async.AsyncEngine, administrator: connections.Connection) -> None:
    """A contact that entered two workflows, paid, was refunded, achieved a goal and left."""
    await world.install(administrator, [ONE, purchase(3, "w2")])
    happened = [
        started(0),
        started(0, "s2", ("w2", "e2", "c1")),
        tagged("t", 1),
        paid("p", 2),
        paid("p2", 2, "p2"),
        failed("f", 3, "p2"),
        ended(4, "x2", ("w2", "e2", "c1")),
    ]
    await world.Worker(pool, world.Broker()).take(*happened)
    await kept_events.keep(pool, *happened[2:5])


def _told(entries: list[Entry]) -> list[tuple[str, Any]]:
    return [(entry.kind, entry.position.key) for entry in entries]


GOAL_1, GOAL_3 = str(UUID(int=1)), str(UUID(int=3))
# The exit is as old as the test; the others happened years ago.
LIVED = [
    ("exit", ("e1",)),
    ("enrollment_ended", ("e2",)),
    ("event", ("/bank", "f")),
    ("achievement", ("e2", GOAL_3)),
    ("hit", ("/shop", "p2", "w2", GOAL_3)),
    ("hit", ("/shop", "p", "w2", GOAL_3)),
    ("event", ("/shop", "p2")),
    ("event", ("/shop", "p")),
    ("achievement", ("e1", GOAL_1)),
    ("hit", ("/crm", "t", "w1", GOAL_1)),
    ("event", ("/crm", "t")),
    ("enrollment_started", ("e2",)),
    ("enrollment_started", ("e1",)),
]


@pytest.mark.parametrize("entries_max", [1, 2, 5, 100])
@pytest.mark.usefixtures("lived")
async def test_all_kinds_are_merged_newest_first_in_pages_of_any_size(
    pool: sa_async.AsyncEngine, entries_max: int
) -> None:
    found = await _read_all(pool, entries_max)
    assert _told(found) == LIVED


@pytest.mark.usefixtures("lived")
async def test_a_page_is_narrowed_to_kinds_and_to_a_workflow_with_the_events_of_all(
    pool: sa_async.AsyncEngine,
) -> None:
    hits = [one for one in LIVED if one[0] == "hit"]
    assert _told(await _read_all(pool, 2, kinds=[contact_timeline.HITS])) == hits
    of_workflow = _told(await _read_all(pool, 3, workflow_id="w1"))
    assert of_workflow == [
        LIVED[0],
        LIVED[2],
        *LIVED[6:11],
        LIVED[12],
    ]


@pytest.mark.usefixtures("lived")
async def test_an_entry_holds_what_is_stored(pool: sa_async.AsyncEngine) -> None:
    found = {(entry.kind, entry.position.key): entry.fact for entry in await _read_all(pool, 100)}
    kept, hit = found["event", ("/shop", "p")], found["hit", ("/shop", "p", "w2", GOAL_3)]
    data = '{"contact_id":"c1","payment_id":"p1","amount":"100","currency":"EUR"}'
    assert kept == timelines.Happened("payment.completed", "/shop", "p", data, "topic", 3, 1)
    assert hit == timelines.Hit("w2", UUID(int=3), 1, "/shop", "p", data)
    reversal = found["event", ("/bank", "f")]
    assert reversal == timelines.Happened("payment.failed", "/bank", "f", '{"contact_id":"c1","payment_id":"p2"}')
    achieved = found["achievement", ("e1", GOAL_1)]
    assert isinstance(achieved, timelines.Achieved)
    assert (achieved.goal_type, achieved.id, achieved.revision, achieved.revoked_at) == ("tag_added", "t", 1, None)
    left = found["exit", ("e1",)]
    assert isinstance(left, timelines.ExitSent)
    assert (left.goal_ids, left.achieved_at, left.logic) == ((UUID(int=1),), at(1), "any")


async def test_a_reversal_that_history_keeps_is_shown_once_with_its_position(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [purchase(1)])
    happened = (started(0), paid("p", 1), refunded("r", 2, "99.5"))
    await world.Worker(pool, world.Broker()).take(*happened)
    (fact,) = await _happened(pool, "r")
    assert (fact.topic, '"amount":"99.5"' in fact.data) == (None, True)
    await kept_events.keep(pool, *happened[1:])
    (again,) = await _happened(pool, "r")
    assert (again.topic, again.offset) == ("topic", 1)


async def _happened(pool: sa_async.AsyncEngine, id_: str) -> list[timelines.Happened]:
    found = [entry.fact for entry in await _read_all(pool, 100)]
    return [fact for fact in found if isinstance(fact, timelines.Happened) and fact.id == id_]


async def test_a_repeated_event_and_a_hit_of_two_days_are_shown_once(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(started(0), tagged("t", 1))
    await administrator.execute(
        "INSERT INTO goal_hits_kept SELECT tenant_id, workflow_id, contact_id, goal_id, event_source, event_id,"
        " goal_version, event_time, data FROM goal_hits"
    )
    for day in (kept_events.DAY, kept_events.DAY + timedelta(days=1)):
        await kept_events.keep(pool, *[tagged("t", 1)] * 5, day=day, first_offset=day.day)
    found = [entry for entry in await _read_all(pool, 2) if entry.kind in ("event", "hit")]
    assert [entry.kind for entry in found] == ["hit", "event"]
    assert isinstance(found[1].fact, timelines.Happened)
    assert found[1].fact.offset == kept_events.DAY.day


@pytest.mark.usefixtures("lived")
async def test_another_tenant_reads_nothing(pool: sa_async.AsyncEngine) -> None:
    assert await _read_all(pool, 100, tenant_id="south", searched=["w1", "w2"]) == []
    async with connections.tenant_transaction(pool, "south", "timeline") as connection:
        driver = await connections.driver_of(connection)
        known = await contact_timeline.workflows_of(driver, TENANT, "c1")
        asked = contact_timeline.Asked(TENANT, "c1", ["w1", "w2"])
        assert (known.entered, known.searched, await contact_timeline.read(driver, asked)) == ((), (), Page(()))


async def test_hits_of_a_contact_without_enrollment_are_found(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE, TWO])
    await world.Worker(pool, world.Broker()).take(tagged("t", 1))
    assert _told(await _read_all(pool, 100)) == [("hit", ("/crm", "t", "w1", GOAL_1))]


async def test_hits_are_looked_for_in_a_bounded_number_of_workflows(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_timeline, "WORKFLOWS_MAX", 2)
    await world.install(administrator, [ONE, purchase(2, "w2"), purchase(3, "w3"), purchase(4, "w4")])
    await world.Worker(pool, world.Broker()).take(started(0, "s", ("w3", "e3", "c1")))
    async with connections.tenant_transaction(pool, TENANT, "timeline") as connection:
        known = await contact_timeline.workflows_of(await connections.driver_of(connection), TENANT, "c1")
    assert (known.searched, known.is_whole, known.has_more) == (("w3", "w1"), False, False)
    assert known.entered == (contact_timeline.OfWorkflow("w3", 1, 1, at(0)),)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "WzFd",
        *(
            encode_cursor(json.dumps(position).encode())
            for position in (
                ["2026-05-01T00:00:00Z", 9, ["a"]],
                ["2026-05-01T00:00:00Z", -1, ["a"]],
                ["2026-05-01T00:00:00", 0, ["a"]],
                ["2026-05-01T00:00:00Z", 0, ["a\0"]],
                ["2026-05-01T00:00:00Z", 0, [""]],
                ["2026-05-01T00:00:00Z", 0, ["a", "b"]],
                ["2026-05-01T00:00:00Z", 2, ["a", "b", "c", "no-uuid"]],
                ["9999-12-31T23:59:59.999999Z", 0, ["a"]],
                ["0001-01-01T00:00:00+23:00", 0, ["a"]],
            )
        ),
    ],
)
async def test_a_cursor_that_no_page_gave_is_refused(pool: sa_async.AsyncEngine, cursor: str) -> None:
    with pytest.raises(CursorError):
        await _read(pool, before=contact_timeline.position_of(cursor))


# --- 20,000 events ---

_FILL = f"""
SELECT goalworker_make_history_days('2026-05-01', '2026-05-30');
SELECT goalworker_make_days(ARRAY['goal_hits'], '2026-05-24', '2026-05-30');
INSERT INTO history_events
    SELECT 'north', CASE WHEN number % 2 = 0 THEN 'c1' ELSE 'other' || number END, '/crm', 'h' || number,
        'contact.tag.added', '2026-05-01'::timestamptz + number * interval '60 s',
        '{{"contact_id": "c1", "tag_id": "tag-1"}}', 'tag-added', 0, number, date '2026-05-01' + number / 1440
    FROM generate_series(0, {2 * MANY - 1}) AS number;
INSERT INTO goal_hits (tenant_id, workflow_id, contact_id, goal_id, event_source, event_id, goal_version, event_time,
        data, contact_hash, recorded_on)
    SELECT 'north', 'w1', CASE WHEN number % 20 = 0 THEN 'c1' ELSE 'other' || number END, '{UUID(int=1)}', '/crm',
        'h' || number, 1, '2026-05-24'::timestamptz + number * interval '30 s', '{{"contact_id": "c1"}}',
        CASE WHEN number % 20 = 0 THEN {ids.contact_hash("north", "w1", "c1")} ELSE number END,
        date '2026-05-24' + number / 2880
    FROM generate_series(0, {MANY - 1}) AS number;
ANALYZE;
"""


@pytest.fixture
async def busy(administrator: connections.Connection) -> None:
    """A contact with 20,000 kept events among 40,000, and 1,000 hits among 20,000."""
    await world.install(administrator, [ONE])
    await administrator.execute(_FILL)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


async def _explained(pool: sa_async.AsyncEngine, **of: Any) -> tuple[Page, dict[str, list[dict[str, Any]]], list[int]]:
    """Read a page; return it with the nodes of each statement's plan, and the rows that each returned."""
    plans: dict[str, list[dict[str, Any]]] = {}
    rows: list[int] = []

    async def hook(statement: statements.Statement) -> Any:
        found = await statement.run()
        if isinstance(found, list) and not statement.sql.startswith("EXPLAIN"):
            rows.append(len(found))
            assert statement.connection is not None
            explained = await statement.connection.fetchval(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.sql}", *statement.args
            )
            plan = (json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"]
            plans[statement.sql] = list(_nodes(plan))
        return found

    with statements.hooked(hook):
        page = await _read(pool, **of)
    return page, plans, rows


@pytest.mark.usefixtures("busy")
async def test_a_page_of_20000_events_reads_the_rows_of_a_page(pool: sa_async.AsyncEngine) -> None:
    first = await _read(pool, kinds=[contact_timeline.EVENTS])
    assert first.before is not None
    page, plans, rows = await _explained(pool, kinds=[contact_timeline.EVENTS], before=first.before)
    assert len(page.entries) == contact_timeline.ENTRIES_MAX
    (nodes,) = [nodes for sql, nodes in plans.items() if "history_events" in sql]
    scanned = [node for node in nodes if "Scan" in node["Node Type"]]
    assert {node["Node Type"] for node in scanned} == {"Index Scan"}
    assert sum(node["Actual Rows"] for node in scanned) <= contact_timeline.ENTRIES_MAX + 40  # and one of each day
    assert max(rows) <= contact_timeline.ENTRIES_MAX + 1


@pytest.mark.usefixtures("busy")
async def test_the_hits_of_a_page_are_found_by_the_hash_of_the_contact(pool: sa_async.AsyncEngine) -> None:
    page, plans, rows = await _explained(pool, kinds=[contact_timeline.HITS])
    assert len(page.entries) == contact_timeline.ENTRIES_MAX
    (nodes,) = [nodes for sql, nodes in plans.items() if "goal_hits" in sql]
    days = {f"goal_hits_202605{day}" for day in range(24, 31)}
    assert {f"{day}_by_contact" for day in days} <= {node["Index Name"] for node in nodes if "Index Name" in node}
    assert not days & {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    assert max(rows) <= contact_timeline.ENTRIES_MAX + 1


@pytest.mark.usefixtures("busy")
async def test_all_pages_of_20000_events_show_each_once(pool: sa_async.AsyncEngine) -> None:
    found = await _read_all(pool, 2_000, kinds=[contact_timeline.EVENTS])
    assert len({entry.position for entry in found}) == len(found) == MANY


@pytest.mark.usefixtures("busy")
async def test_a_page_takes_the_same_statements_whatever_it_shows(pool: sa_async.AsyncEngine) -> None:
    made: list[str] = []

    async def hook(statement: statements.Statement) -> Any:
        made.extend([statement.sql] if "SELECT" in statement.sql else [])
        return await statement.run()

    with statements.hooked(hook):
        page = await _read(pool)
    assert len(page.entries) == contact_timeline.ENTRIES_MAX
    assert len(made) <= 2 + 7


async def test_events_of_one_moment_are_paged_by_their_ids(pool: sa_async.AsyncEngine) -> None:
    happened: list[events.Event] = [tagged(f"h{number:03}", 1) for number in range(250)]
    await kept_events.keep(pool, *happened)
    found = await _read_all(pool, 100)
    assert [entry.position for entry in found] == [
        Position(at(1), 1, ("/crm", event.id)) for event in reversed(happened)
    ]
