"""Every metric of the contract is exposed, with the right values (contract section 6)."""

import time

import goalworker
from goalworker import metrics
from tests.kit import clients, messages_in, worker_process

# The contract's table.
LABELS = {
    "build_info": {"version"},
    "events_total": {"topic", "outcome"},
    "event_age_seconds": {"topic"},
    "batch_duration_seconds": {"stage"},
    "batch_records": set(),
    "achievements_total": {"goal_type"},
    "achievements_revised_total": {"goal_type"},
    "achievements_revoked_total": {"goal_type"},
    "exits_total": {"logic"},
    "exits_waiting": set(),
    "reversals_total": {"kind", "effect"},
    "exit_age_seconds": {"logic"},
    "outbox_refused_records": {"topic"},
    "consumer_lag_records": {"topic", "partition"},
    "consumer_hidden_records": {"topic", "partition"},
    "consumer_hidden_seconds": {"topic", "partition"},
    "consumer_last_progress_timestamp_seconds": {"topic", "partition"},
    "consumer_rebalances_total": set(),
    "consumer_assigned_partitions": set(),
    "events_without_time_total": {"topic"},
    "topic_paused": {"topic"},
    "ready": {"check"},
    "dead_letters_total": {"topic", "reason"},
    "outbox_pending_records": set(),
    "outbox_oldest_timestamp_seconds": set(),
    "outbox_published_total": {"topic"},
    "goals_loaded": set(),
    "goals_loaded_timestamp_seconds": set(),
    "db_transaction_duration_seconds": {"operation"},
    "clock_skew_seconds": {"of"},
    "db_pool_connections": {"state"},
}
HISTOGRAMS = {
    "event_age_seconds",
    "exit_age_seconds",
    "batch_duration_seconds",
    "batch_records",
    "db_transaction_duration_seconds",
}


async def test_every_metric_is_exposed_with_its_labels(client: clients.Client, worker: worker_process.Worker) -> None:
    async def is_measured() -> bool:
        return ("goalworker_consumer_lag_records", _where(client)) in worker.metrics()

    await clients.until(is_measured)
    found: dict[str, set[str]] = {}
    for sample, having in worker.metrics():
        found.setdefault(sample, set()).update(label for label, _ in having)
    for name, labels in LABELS.items():
        assert found[f"goalworker_{name}{'_count' if name in HISTOGRAMS else ''}"] == labels, name
    assert worker.metric("build_info", version=goalworker.__version__) == 1


def _where(client: clients.Client) -> frozenset[tuple[str, str]]:
    return frozenset({("topic", client.installation.topics["form_submitted"]), ("partition", "3")})


async def test_metrics_count_the_outcome_of_each_record(client: clients.Client, worker: worker_process.Worker) -> None:
    goal = await client.create_goal("measured", "form_submitted", form_id="f")
    enrollment, at = messages_in.new_enrollment("measured"), messages_in.later(goal.created_at, 1)
    form, later_form = (
        enrollment.submits("f", messages_in.later(at, 1)),
        enrollment.submits("f", messages_in.later(at, 2)),
    )
    await client.process(enrollment.started(at), later_form)
    await client.process(later_form, form)
    timeless = messages_in.binary("form.submitted", {"contact_id": "c", "form_id": "g"}, at)
    without_time = [header for header in timeless.headers if header[0] != "ce_time"]
    await client.process(messages_in.Record("form_submitted", timeless.value, headers=without_time))
    await client.process(messages_in.Record("form_submitted", None, b"key"), messages_in.Record("form_submitted", b"{"))
    await client.process(enrollment.ended(at))

    async def is_counted() -> bool:  # after the commit
        return worker.metric("events_total") == 8

    await clients.until(is_counted)
    forms, lifecycle = client.installation.topics["form_submitted"], client.installation.topics["workflow_lifecycle"]
    counts = {outcome: worker.metric("events_total", topic=forms, outcome=outcome) for outcome in metrics.GOAL_OUTCOMES}
    assert counts == {
        **dict.fromkeys(("recorded", "test", "no_move", "foreign_type", "foreign_tenant"), 0),
        **{"matched": 2, "unmatched": 1, "duplicate": 1, "dead_letter": 1, "tombstone": 1},
    }
    assert worker.metric("events_total", topic=lifecycle, outcome="recorded") == 2
    assert worker.metric("events_without_time_total", topic=forms) == 1
    assert worker.metric("dead_letters_total", topic=forms, reason="invalid_json") == 1
    assert worker.metric("dead_letters_total") == 1
    for name in ("achievements_total", "achievements_revised_total", "achievements_revoked_total"):
        assert worker.metric(name, goal_type="form_submitted") == worker.metric(name) == 1, name
    assert worker.metric("exits_total", logic="any") == worker.metric("exits_total") == 1
    assert worker.metric("outbox_published_total", topic=client.installation.topics["goal_achieved"]) == 3
    assert worker.metric("outbox_published_total", topic=client.installation.topics["workflow_exit"]) == 1
    assert worker.metric("goals_loaded") == 1
    assert worker.metric("exit_age_seconds_count", logic="any") == worker.metric("exit_age_seconds_count") == 1
    assert 0 < worker.metric("exit_age_seconds_sum") < 60
    assert worker.metric("event_age_seconds_count", topic=forms) == 6
    assert 0 < worker.metric("event_age_seconds_sum", topic=forms) < 60
    for stage in metrics.STAGES:
        assert worker.metric("batch_duration_seconds_count", stage=stage) > 0, stage
    for operation in metrics.OPERATIONS:
        assert worker.metric("db_transaction_duration_seconds_count", operation=operation) > 0, operation
    assert worker.metric("batch_records_sum") == 8


async def test_gauges_show_the_current_state(client: clients.Client, worker: worker_process.Worker) -> None:
    await client.settle()

    async def is_idle() -> bool:
        return worker.metric("consumer_lag_records") == worker.metric("outbox_pending_records") == 0

    await clients.until(is_idle)
    partitions = 4 * len(clients.INPUTS)
    assert worker.metric("consumer_assigned_partitions") == partitions
    assert worker.metric("consumer_rebalances_total") >= 1
    progress = worker.metric("consumer_last_progress_timestamp_seconds")  # read before the clock, since it advances
    seconds_ago = partitions * time.time() - progress
    assert 0 <= seconds_ago < partitions * 60
    assert time.time() - 120 < worker.metric("goals_loaded_timestamp_seconds") <= time.time()
    assert worker.metric("outbox_oldest_timestamp_seconds") == 0
    assert worker.metric("db_pool_connections") >= 1
    assert worker.metric("topic_paused") == 0
    assert {check: worker.metric("ready", check=check) for check in metrics.CHECKS} == dict.fromkeys(metrics.CHECKS, 1)
    paths = ("startup", "live", "ready")
    assert [worker.answers(f"/healthz/{path}") for path in paths] == [200] * 3
