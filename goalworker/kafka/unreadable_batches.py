"""Batches that cannot be read, where aiokafka fetches in its own way.

aiokafka drops the records before such a batch along with it, and its errors name neither partition nor offset. So from
the first such error on, records are read one at a time, until the batch is the next one of its partition.
"""

import gzip
import zlib
from typing import Any, Final

import aiokafka
import cramjam
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors

from goalworker.decoding.record import FetchedRecord
from goalworker.errors import UndecodableError

# A partition without a record after this many milliseconds is left for the next pass.
WAIT_MS: Final = 100

_ERRORS: Final = (
    kafka_errors.CorruptRecordException,
    kafka_errors.UnsupportedCodecError,
    cramjam.DecompressionError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    UnicodeDecodeError,  # the name of a header
)


def is_unreadable(error: Exception) -> bool:
    """Say whether an error is about the content of a batch; a wrong checksum may be damage on the way."""
    return isinstance(error, _ERRORS) and "Invalid CRC" not in str(error)


async def read_singly(
    consumer: aiokafka.AIOKafkaConsumer, max_records: int
) -> dict[TopicPartition, list[FetchedRecord]]:
    """Return up to `max_records` records, read one at a time; raises UndecodableError for a batch that comes next.

    Each partition has an equal share, so that a backlog of one does not hide the batch in another.
    """
    fetched: dict[TopicPartition, list[FetchedRecord]] = {}
    partitions = consumer.assignment() - consumer.paused()
    for partition in partitions:
        records: list[FetchedRecord] = []
        try:
            while len(records) < max(1, max_records // len(partitions)):
                found: dict[Any, Any] = await consumer.getmany(partition, timeout_ms=WAIT_MS, max_records=1)
                if not found:
                    break
                records += found[partition]
        except Exception as error:
            if not is_unreadable(error):
                raise
            if not records:
                offset = await consumer.position(partition)
                raise UndecodableError(partition.topic, partition.partition, offset, None, str(error)) from error
        if records:
            fetched[partition] = records
    return fetched
