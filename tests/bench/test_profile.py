"""A sample counts for the innermost part in which it was taken."""

from pathlib import Path

from tests.bench import profile

LOOP = (
    "main (goalworker/__main__.py:9);_run_once (asyncio/base_events.py:1);Worker.run (goalworker/pipeline/worker.py:2)"
)


def test_a_sample_counts_for_its_innermost_part() -> None:
    found = profile.shares(
        [
            f"{LOOP};_take_all (goalworker/pipeline/batches.py:1);take (goalworker/decoding/fast.py:2) 6",
            f"{LOOP};_take_all (goalworker/pipeline/batches.py:1) 2",
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


def test_every_file_of_ours_that_a_part_names_exists() -> None:
    named = {name for names in profile.PARTS.values() for name in names if name.startswith("goalworker/")}
    assert {name for name in named if not Path(name).exists()} == set()
