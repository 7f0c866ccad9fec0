"""Where a record goes: the partition that every other client of Kafka would choose for its key."""

import aiokafka.partitioner
from hypothesis import given
from hypothesis import strategies as st

from goalworker import kafka


@given(st.binary(max_size=64))
def test_a_key_has_the_hash_that_kafka_gives_it(key: bytes) -> None:
    assert kafka._hash(key) == aiokafka.partitioner.murmur2(key) & 0x7FFFFFFF
