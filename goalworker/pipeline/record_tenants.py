"""The tenant of a record, as the decoder tells it."""

from goalworker.decoding import envelope
from goalworker.decoding.decoder import Decoder
from goalworker.decoding.record import FetchedRecord
from goalworker.pipeline import batches, dead_letters


def tenant_of(decoder: Decoder, topic: str, record: FetchedRecord) -> str | None:
    """Return the tenant of a record, None if it cannot be told.

    A tombstone has no envelope: its key tells the tenant, if it begins with one (contract section 2). A redriven record
    and a dead letter are decoded as records of their original topic.
    """
    if record.value is None:
        return envelope.tenant_of_key(record.key)
    if not decoder.knows(topic):
        topic = dead_letters.original_topic(record.headers) or ""
    if not decoder.knows(topic):
        return None
    outcome = decoder.decode_record(topic, record, batches.ANY_TIME, (0, record.offset))
    decoder.without_time.clear()  # the worker counted it when it decoded the record
    return None if outcome is None else outcome.tenant_id
