"""A judgement writes odd texts unchanged."""

import pytest
from msgspec import structs
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import arrays, connections
from tests.integration import scenes, world

ODD = ("null", 'a"b', "c\\d", "{e,f}", "'g'", "NULL", " ", "\x7fü,\U0001f600")


@pytest.mark.parametrize("text", ODD)
async def test_odd_texts_are_written_unchanged(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, text: str
) -> None:
    await world.install(administrator, [scenes.goal(1, text, text)])
    run = (text, f"e{text}", f"c{text}")
    hit = structs.replace(scenes.tagged("h1", 5, text, run[2]), traceparent=text, tracestate=f"{text}1", source=text)
    await world.Worker(pool, world.Broker()).take(scenes.started(0, "s1", run), hit)
    columns = "workflow_id, enrollment_id, contact_id"
    achieved = await administrator.fetchrow(
        f"SELECT {columns}, event_source, traceparent, tracestate, data ->> 'tag_id' FROM achievements"
    )
    assert tuple(achieved) == (*run, text, text, f"{text}1", text)
    assert tuple(await administrator.fetchrow(f"SELECT {columns} FROM exits")) == run


def test_texts_that_would_be_changed_are_refused() -> None:
    assert arrays.texts([]) == ""
    assert arrays.texts(["a", "", "b"]) == "a\x1f\x1fb"
    for column in (["a", "b\x1fc"], [""]):
        with pytest.raises(ValueError, match="control character"):
            arrays.texts(column)
