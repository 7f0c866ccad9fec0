"""Outcomes of records for the metrics, counted once, when their batch is committed."""

import time
from collections import Counter
from collections.abc import Mapping

from goalworker import metrics
from goalworker.domain import events, facts, reversal_effects
from goalworker.pipeline import batches, recording


def count(
    batch: batches.Batch, recorded: recording.Recorded, effects: Mapping[facts.EventKey, str], *, tracking: bool
) -> None:
    """Count the records of a committed batch by topic and outcome, and observe their ages (contract section 6)."""
    metrics.batch_records.observe(batch.records)
    outcomes = _outcomes(batch, recorded, tracking=tracking)
    for (topic, outcome), number in outcomes.items():
        metrics.events_total.labels(topic=topic, outcome=outcome).inc(number)
    if batch.has_reversals:
        _count_effects(batch, recorded, effects)
    for topic, _, offsets in batch.without_time:
        metrics.events_without_time_total.labels(topic=topic).inc(len(offsets))
    now = time.time()
    for topic, timestamps in batch.timestamps.items():
        ages = metrics.event_age_seconds.labels(topic=topic)
        for timestamp_ms, number in timestamps.items():
            metrics.observe_many(ages, max(now - timestamp_ms / 1000, 0.0), number)


def _outcomes(batch: batches.Batch, recorded: recording.Recorded, *, tracking: bool) -> Counter[tuple[str, str]]:
    outcomes: Counter[tuple[str, str]] = Counter()
    new = recorded.new_events
    # Counted in one go: of each hundred events, ten or more may be among them.
    outcomes.update(
        [
            (partition.topic, "matched" if facts.event_key(event) in new else "duplicate")
            for partition, _, event in batch.matched
        ]
    )
    for partition, _, event in batch.items if batch.has_lifecycle else ():
        if event.type in events.LIFECYCLE_TYPES:
            outcomes[partition.topic, _lifecycle_outcome(event, recorded, tracking=tracking)] += 1
    for partition, _, event in batch.items if batch.has_reversals else ():
        if event.type in events.REVERSAL_TYPES:
            is_new = facts.event_key(event) in recorded.new_events
            outcomes[partition.topic, "recorded" if is_new else "duplicate"] += 1
    for letter in batch.letters:
        outcomes[letter.record.topic, "dead_letter"] += 1
    for topic, number in batch.tombstones.items():
        outcomes[topic, "tombstone"] += number
    # A shared topic may consist of such records.
    outcomes.update([(partition.topic, skipped.outcome) for partition, _, skipped in batch.skipped])
    # The remaining records are counted without a look at each.
    known: Counter[str] = Counter()
    for (topic, _), number in outcomes.items():
        known[topic] += number
    for topic, timestamps in batch.timestamps.items():
        if rest := timestamps.total() - known[topic]:
            outcomes[topic, "unmatched"] = rest
    return outcomes


def _count_effects(batch: batches.Batch, recorded: recording.Recorded, effects: Mapping[facts.EventKey, str]) -> None:
    """Count each reversal once, by what it did when it was judged; of a contact without enrollments it did nothing."""
    types = {facts.event_key(event): event.type for *_, event in batch.items if event.type in events.REVERSAL_TYPES}
    for key in types.keys() & recorded.new_events:
        effect = effects.get(key, reversal_effects.UNKNOWN)
        metrics.reversals_total.labels(reversal_effects.kind_of(types[key]), effect).inc()


def _lifecycle_outcome(event: events.Event, recorded: recording.Recorded, *, tracking: bool) -> str:
    if isinstance(event.data, events.EnrollmentChanged):
        if not tracking:
            return "ignored"
        return "recorded" if (event.tenant_id, event.data.enrollment_id) in recorded.new_enrollments else "duplicate"
    return "recorded" if facts.event_key(event) in recorded.new_events else "duplicate"
