"""A sample counts for the innermost part in which it was taken."""

from tests.bench import profile

LOOP = "main (goalworker/__main__.py:9);_run_once (asyncio/base_events.py:1);Worker.run (goalworker/worker.py:2)"


def test_a_sample_counts_for_its_innermost_part() -> None:
    found = profile.shares(
        [
            f"{LOOP};_take_all (goalworker/batch.py:1);take (goalworker/decode.py:2) 6",
            f"{LOOP};_take_all (goalworker/batch.py:1) 2",
            f"{LOOP};fetch (asyncpg/connection.py:1);write (asyncio/selector_events.py:3) 1",
            f"{LOOP};something (somewhere/else.py:1) 1",
            "<module> (goalworker/__main__.py:9);_load (importlib.py:1) 90",
        ]
    )
    assert {part: percent for part, percent in found.items() if percent} == {
        "decoding": 60.0,
        "matching, counting": 20.0,
        "sockets and event loop": 10.0,
        "other": 10.0,
    }


def test_no_samples_give_no_profile() -> None:
    assert profile.shares([]) == {}
