"""Tables, curves and guard of the bench."""

import hashlib
import json
import os
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from goalworker import embedded, errors
from tests.bench import curves, figures, guard, index_use, limits, load, scale, streams, streams_app, table, usage

SPEED = {"median": 100_000.0, "min": 90_000.0, "max": 120_000.0}


def spread(median: float) -> dict[str, float]:
    return {"median": median, "min": median, "max": median}


def row(share: float, **more: Any) -> dict[str, Any]:
    return {
        "name": "nothing matches",
        "events_per_second": SPEED,
        "share_percent": spread(share),
        "target_percent": 75,
        "cpu_us": {"worker": 4.7, "broker": 0.5, "database": 0.0},
        "peak_mib": 238,
        **more,
    }


def goals(count: int, percent: float, seconds: float, peak_mb: int) -> dict[str, Any]:
    return {
        "goals": count,
        "events_per_second": SPEED,
        "of_first_percent": spread(percent),
        "ready_seconds": spread(seconds),
        "resting_mb": 100,
        "peak_mb": peak_mb,
    }


def test_a_row_below_its_target_is_marked() -> None:
    assert "| 52 % (goal: >= 75, **missed**) |" in table.of({"rows": [row(52)]})
    assert "| 75 % (goal: >= 75) |" in table.of({"rows": [row(75)]})


def test_parts_that_were_not_measured_are_not_in_the_table() -> None:
    text = table.of({"rows": [row(52)]})
    assert text.startswith("| backlog")
    assert text.count("\n|---") == 1
    assert "svg" not in text


def test_the_time_of_a_judgement_is_shown_beside_its_target() -> None:
    measured = [{"name": "one hit", "us": 1.9}, {"name": "10 occurrences", "us": 20.5, "target_us": 20}]
    text = table.of({"judging": measured})
    assert "| one hit | 1.9 µs |" in text
    assert "| 10 occurrences | 20.5 µs (goal: <= 20, **missed**) |" in text


def test_insight_is_shown_beside_its_targets() -> None:
    own = {"name": "all kept", "events_per_second": SPEED, "cpu_us": row(52)["cpu_us"], "peak_mib": 120}
    beside = {"events_per_second": SPEED, "insight_events_per_second": SPEED, "alone_events_per_second": SPEED}
    measured = {
        "rows": [own | {"target": 80_000}, own | {"target": 110_000}],
        "offered_events_per_second": 20_000,
        "beside": beside | {"share_percent": spread(84)},
        "latency": {"p50_ms": 12.0, "p99_ms": 80.5},
    }
    text = table.of({"insight": measured})
    assert "| all kept | 100,000 (90,000 to 120,000) (goal: >= 80,000) | 4.7, 0.5, 0 | 120 |" in text
    assert "(goal: >= 110,000, **missed**)" in text
    assert "84 % (goal: >= 85, **missed**)" in text
    assert "p50 12 ms, p99 80.5 ms (goal: <= 80, **missed**)" in text


def test_plans_are_shown_beside_their_targets() -> None:
    backfill = {"contacts_per_second": 1_900, "events_per_second": 2_000, "p50_ms": 22.0, "p99_ms": 100.5}
    measured = {
        "enrollments": 200_000,
        "enrollments_per_cpu_second": spread(14_900),
        "sample": 10_000,
        "sample_ms": spread(1_250),
        "backfill": backfill,
    }
    text = table.of({"plans": measured})
    assert "judges 14,900 (14,900 to 14,900) enrollments (goal: >= 15,000, **missed**)" in text
    assert "a sample of 10,000 takes 1250 ms (goal: <= 2000)" in text
    assert "backfills a goal, 1,900 contacts a second" in text
    assert "p50 22 ms, p99 100.5 ms (goal: <= 100, **missed**)" in text
    measured["enrollments_per_cpu_second"] = spread(15_000)
    assert "enrollments (goal: >= 15,000) in a second" in table.of({"plans": measured})


def test_databases_that_nobody_analyzed_are_shown_beside_analyzed_ones() -> None:
    cpu = {"worker": 8.0, "broker": 1.5, "database": 3.5}
    own = {"events_per_second": SPEED, "cpu_us": cpu, "analyzed_cpu_us": cpu | {"database": 3.0}}
    grown = own | {"enrollments": 1_000_000, "enrollments_per_second": SPEED, "of_analyzed_percent": spread(94.9)}
    text = table.of({"fresh": {"new": own | {"of_analyzed_percent": spread(98)}, "grown": grown}})
    assert "| new | 100,000 (90,000 to 120,000) | 98 % (goal: >= 95) | 3.5, 3 |" in text
    assert "to 1,000,000 enrollments under one worker | 100,000 (90,000 to 120,000) | 94.9 % (goal: >= 95, **" in text


def test_enrollments_by_kafka_are_those_of_the_seed() -> None:
    mix = load.Mix(100, hits=10, achieved=1, goals=60, tenants=2)
    *_, (topic, key, value) = load.enrollments(mix, 34)
    assert (topic, key) == ("workflow_lifecycle", b"tenant-000001:contact-000000033")
    event = json.loads(value)
    assert event["data"]["workflow_id"] == f"workflow-{33 // 6}"
    assert event["subject"] == event["data"]["enrollment_id"] == str(uuid.UUID(hashlib.md5(b"run 33").hexdigest()))


def test_an_index_that_no_database_read_is_listed_with_its_largest_size() -> None:
    unread = {"table": "exits", "index": "exits_by_created_at", "unique": False, "largest_bytes": 81_920}
    assert list(index_use.lines([unread]))[1:] == ["  exits: exits_by_created_at, at most 81,920 bytes"]


def test_a_full_table_of_hits_is_shown_beside_its_targets() -> None:
    full = {
        "bytes_each": 99.5,
        "hits": 100_000_000,
        "due": 11_000_000,
        "bytes_each_in_place": 90.1,
        "events_per_second": SPEED,
        "none_events_per_second": SPEED,
        "of_none_percent": spread(89.9),
        "drop_ms": 100.1,
        "deleted_ms": 1_350.4,
        "latency": {"events_per_second": 2_000, "p50_ms": 20.0, "p99_ms": 90.0, "most_ms": 200.0},
    }
    text = table.of({"full": full})
    assert "takes 99.5 bytes (goal: <= 100), with its share of every index. With 100,000,000 hits in place" in text
    assert "100,000 (90,000 to 120,000) with none, in turn: 89.9 % (goal: >= 90, **missed**)" in text
    assert "The 11,000,000 of a day are gone after 100.1 ms (goal: <= 100, **missed**)" in text
    assert "their files, without a lock, after 1,350 ms" in text
    assert "p99 90 ms, at most 200 ms (goal: <= 200)" in text


def test_two_cells_are_shown_beside_one_installation_and_their_target() -> None:
    def work(cells: int) -> dict[str, Any]:
        each = {"worker_us": [7.5] * cells, "database_us": [3.44] * cells, "database_load": [0.147] * cells}
        return {"events_per_second": SPEED, **each}

    compared = {"one": work(1), "two": work(2), "times": spread(1.6)}
    skipped = {"name": "of other cells", "events_per_second": SPEED, "cpu_us": {"worker": 2.25}}
    measured = {"unlimited": compared, "limited": compared | {"processors": 0.15}, "skipping": [skipped]}
    text = table.of({"cells": measured})
    assert "| one installation | 100,000 (90,000 to 120,000) | 7.5 | 3.44 |" in text
    assert "| two cells | 100,000 (90,000 to 120,000) | 7.5, 7.5 | 3.44, 3.44 |" in text
    assert "allows each PostgreSQL 15 % of a processor" in text
    assert "(98 % and 98 %): 1.6 times (goal: >= 1.7, **missed**)." in text
    assert "| of other cells | 100,000 (90,000 to 120,000) | 2.25 |" in text
    assert "as the limit" not in table.of({"cells": measured | {"limited": None}})


def test_the_share_of_copy_is_shown_where_it_was_measured() -> None:
    measured = row(4, copy_events_per_second=SPEED, share_of_copy_percent=spread(28))
    assert "the product is at 28 % (goal: >= 50, **missed**) of that" in table.of({"rows": [measured]})


def test_the_cost_of_an_event_depends_on_its_effect() -> None:
    def cpu(worker: float) -> dict[str, float]:
        return {"worker": worker, "broker": 0.5, "database": 0.0}

    # 4 for any event, 50 more for a hit, 100 more for an achievement; a hundred events have 9 and 1 of these.
    rows = [row(50, cpu_us=cpu(worker)) for worker in (4.0, 4 + 0.09 * 50 + 0.01 * 100, 9, 104.0)]
    text = table.of({"rows": rows})
    assert "| any event | 4 | 0.5 | 0 |" in text
    assert "| that hits a goal, more | 50 | 0 | 0 |" in text
    assert "| that achieves one and exits, more | 100 | 0 | 0 |" in text
    assert "of one processor: worker 0.19, Kafka 0.01, PostgreSQL 0." in text


def test_only_the_largest_number_of_goals_has_targets() -> None:
    text = table.of({"goals": [goals(1_000, 100, 1.5, 200), goals(1_000_000, 92.5, 9, 950)]})
    assert "| 1,000 | 100,000 (90,000 to 120,000) | 100 % | 1.5 s | 100 | 200 |" in text
    assert "| 92.5 % (goal: >= 90) | 9 s (goal: <= 5, **missed**) | 100 | 950 MB (goal: <= 300, **missed**) |" in text


def test_a_peer_is_shown_with_the_guarantees_that_it_lacks() -> None:
    own = {"events_per_second": SPEED, "cpu_us": 12.5}
    peer = own | {"name": "a loop", "times": spread(31), "effect_once": "no", "lacks": "an outbox"}
    measured = own | {"peers": [peer | {"target_times": 40}, peer | {"target_times": None}]}
    lines = table.of({"beside": measured}).splitlines()
    assert lines[-2].endswith("| 12.5 | 31 times (goal: >= 40, **missed**) | no | an outbox |")
    assert lines[-1].endswith("| 12.5 | 31 times | no | an outbox |")


def measured_streams(*faster: float) -> dict[str, Any]:
    own = {"events_per_second": SPEED, "cpu_us": row(52)["cpu_us"], "peak_mib": 300}
    commits = zip((100, 1_000), faster, strict=True)
    return {
        "product": [own | {"workers": 1}, own | {"workers": 2}],
        "streams": [own | {"commit_ms": commit_ms, "times": spread(times)} for commit_ms, times in commits],
        "product_latency": {"events_per_second": 2_000, "p50_ms": 20.5, "p99_ms": 60.0},
        "streams_latency": {"events_per_second": 2_000, "p50_ms": 80.0, "p99_ms": 140.0},
    }


def test_kafka_streams_is_compared_with_as_many_workers_as_it_has_threads() -> None:
    text = table.of({"streams": measured_streams(1.2, 0.9)})
    speed, cost = "100,000 (90,000 to 120,000)", "4.7, 0.5, 0 | 300"
    assert f"| goalworker, workers: 1 | {speed} |  | {cost} | 20.5 ms, 60 ms |" in text
    assert f"| goalworker, workers: 2 | {speed} |  | {cost} |  |" in text
    first = f"{speed} | 1.2 times (goal: >= 1) | {cost} | 80 ms, 140 ms |"
    assert f"| Kafka Streams, a commit each 100 ms | {first}" in text
    second = f"{speed} | 0.9 times (goal: >= 1, **missed**) | {cost} |  |"
    assert f"| Kafka Streams, a commit each 1,000 ms | {second}" in text


async def test_kafka_streams_that_cannot_be_fetched_is_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail() -> str:
        raise errors.DependencyError("Cannot fetch it: check the network.")

    monkeypatch.setattr(streams_app, "fetched", fail)
    pair = embedded.Pair(cast("embedded.Server", None), cast("embedded.Server", None))
    measured = await streams.measured(limits.Bench(pair, "", "", tmp_path, figures.Extent(1, 1)))
    text = table.of({"streams": measured})
    assert text == "Kafka Streams was left out: Cannot fetch it: check the network.\n"


def test_a_result_that_is_missing_or_told_twice_is_counted() -> None:
    found, wanted = Counter({"a": 2, "b": 1}), Counter({"a": 1, "b": 1, "c": 1})
    assert streams_app.difference(found, wanted) == "1 of 3 are missing, 1 are too many"


def test_a_clock_of_kafka_streams_starts_when_it_is_warm() -> None:
    warm = streams.Mark(10.0, 500, {"worker": 4.0, "broker": 1.0})
    end = streams.Mark(15.0, 2_500, {"worker": 4.5, "broker": 1.25})
    drain = warm.drain(end, 7)
    assert (drain.events_per_second, drain.cpu_us) == (400, {"worker": 250, "broker": 125})


def test_the_usage_of_a_process_is_read_while_its_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = [Path("/proc/self/task/0"), *Path("/proc/self/task").iterdir()]
    monkeypatch.setattr(usage, "_threads", lambda pid: threads if pid == os.getpid() else [])
    assert usage.of(os.getpid()).cpu_seconds > 0


def test_latency_has_the_targets_of_its_rate() -> None:
    each = {"p50_ms": 21.5, "p99_ms": 70.0}
    text = table.of({"latency": [each | {"events_per_second": 2_000}, each | {"events_per_second": 5_000}]})
    assert "| 2,000 | 21.5 ms (goal: <= 20, **missed**) | 70 ms (goal: <= 60, **missed**) |" in text
    assert "| 5,000 | 21.5 ms | 70 ms (goal: <= 80) |" in text


def test_each_measured_growth_has_a_curve_and_a_picture_in_the_readme() -> None:
    steps = [{"hits_percent": share, "events_per_second": SPEED} for share in (0, 100)]
    results = {"goals": [goals(1_000, 100, 1.5, 200)], "hits": steps}
    assert [curve.name for curve in curves.of(results)] == ["goals", "hits", "memory"]
    assert next(curves.of({"hits": steps})).points == [(0, 1e5, 9e4, 1.2e5), (100, 1e5, 9e4, 1.2e5)]
    assert "![Memory by goals](growth/memory.svg)" in table.of(results)


def test_other_results_give_another_mark() -> None:
    marks = {next(curves.of({"goals": [goals(count, 100, 1.5, 200)]})).mark for count in (1_000, 1_000, 2_000)}
    assert len(marks) == 2


@pytest.mark.parametrize(("best", "is_slow"), [(20.8, False), (20.7, True)])
def test_the_guard_reports_a_row_far_below_its_known_share(best: float, is_slow: bool) -> None:
    sentence = guard.slow(row(best), {"rows": [row(52)]})
    assert (sentence is not None) == is_slow
    assert sentence is None or sentence.startswith("nothing matches: the product reaches 20.7 % of the raw client")


def test_the_guard_ignores_a_new_row() -> None:
    assert guard.slow(row(1), {"rows": []}) is None


def test_a_spread_is_median_smallest_and_largest() -> None:
    assert figures.spread([3, 1, 2]) == {"median": 2, "min": 1, "max": 3}
    assert figures.shares([50, 30], [100, 100]) == {"median": 40, "min": 30, "max": 50}
    assert figures.shares([50, 90], [10, 10], times=1) == {"median": 7, "min": 5, "max": 9}


def test_a_part_of_the_rows_has_a_minimum() -> None:
    assert figures.Extent(20, 1).of(1_000_000, 1_000) == 50_000
    assert figures.Extent(20, 1).of(10_000, 1_000) == 1_000
    assert figures.Extent(20, 1).of(500, 1_000) == 500


def test_achieving_enrollments_are_spread_over_all_and_meet_every_goal() -> None:
    mix = scale.spread_out(load.Mix(500_000, hits=10, achieved=1), 10_000_000)
    met = [number * mix.stride for number in range(mix.achievements)]
    assert 9_000_000 < met[-1] < 10_000_000
    assert {number % mix.goals for number in met[: mix.goals]} == set(range(mix.goals))


def test_a_mix_yields_its_number_of_events() -> None:
    mix = load.Mix(1_000, hits=10, achieved=1, stride=7)
    values = [value for _, _, value in load.events(mix)]
    assert sum(b"wanted-" in value for value in values) == 100
    assert [number for number in range(70) if any(b'"contact-%09d"' % number in value for value in values)] == [
        each * mix.stride for each in range(mix.achievements)
    ]


def test_a_part_that_is_measured_again_replaces_its_last_results() -> None:
    known = {"cpus": 2, "rows": [1], "latency": [1]}
    assert table.updated(known, {"cpus": 2, "latency": [2], "unread_indexes": {}}) == {
        "cpus": 2,
        "rows": [1],
        "latency": [2],
    }


def test_results_of_another_machine_are_dropped() -> None:
    assert table.updated({"cpus": 4, "rows": [1]}, {"cpus": 2, "latency": [2]}) == {"cpus": 2, "latency": [2]}
