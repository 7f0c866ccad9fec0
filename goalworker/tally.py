"""What became of each record of a batch, for the metrics: counted once, when the batch is committed."""

import time
from collections import Counter

from goalworker import batch as batch_
from goalworker import events, metrics


def count(batch: batch_.Batch, *, tracking: bool) -> None:
    """Count the records of a committed batch by topic and outcome, and how old each was (contract section 6)."""
    metrics.batch_records.observe(batch.records)
    outcomes = _outcomes(batch, tracking=tracking)
    for (topic, outcome), number in outcomes.items():
        metrics.events_total.labels(topic=topic, outcome=outcome).inc(number)
    now = time.time()
    for topic, timestamps in batch.timestamps.items():
        ages = metrics.event_age_seconds.labels(topic=topic)
        for timestamp_ms, number in timestamps.items():
            metrics.observe_many(ages, max(now - timestamp_ms / 1000, 0.0), number)


def _outcomes(batch: batch_.Batch, *, tracking: bool) -> Counter[tuple[str, str]]:
    outcomes: Counter[tuple[str, str]] = Counter()
    hit = {(hit.tenant_id, hit.trigger.source, hit.trigger.id) for hit in batch.hits}
    for record, event in batch.items:
        outcomes[record.topic, _outcome(event, batch, hit, tracking=tracking)] += 1
    for letter in batch.letters:
        outcomes[letter.record.topic, "dead_letter"] += 1
    for topic, number in batch.tombstones.items():
        outcomes[topic, "tombstone"] += number
    return outcomes


def _outcome(event: events.Event, batch: batch_.Batch, hit: set[batch_.Identity], *, tracking: bool) -> str:
    identity = (event.tenant_id, event.source, event.id)
    if isinstance(event.data, events.EnrollmentChanged):
        if not tracking:
            return "ignored"
        return "recorded" if (event.tenant_id, event.data.enrollment_id) in batch.new_enrollments else "duplicate"
    if isinstance(event.data, events.WorkflowChanged):
        return "recorded" if identity in batch.new_facts else "duplicate"
    if not hit or identity not in hit:
        return "unmatched"
    return "matched" if identity in batch.new_facts else "duplicate"
