"""Records of another cell's tenants are skipped and counted; each record is some cell's (contract section 10)."""

import functools
import json
from collections import Counter
from collections.abc import Sequence
from typing import Final

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from goalworker.config import groups
from goalworker.decoding.decoder import Decoder, Malformed, Outcome
from goalworker.decoding.fast import Decoded
from goalworker.decoding.limits import Limits
from goalworker.decoding.record import FetchedRecord, OversizedRecord
from goalworker.decoding.skipping import FOREIGN_TENANT, Skipped
from goalworker.domain import events
from goalworker.domain.cells import ALL_BUCKETS, Cell, bucket_of
from goalworker.goal_index import index
from goalworker.insight import fetched_events
from goalworker.pipeline import batches, fetched_order, record_tenants
from tests.kit import hostile
from tests.kit.examples import examples
from tests.unit import near_misses
from tests.unit.decoding import ALL, PLACE, Headers
from tests.unit.test_skipped import FORMS, LIFECYCLE, ORIGIN, REDRIVE, REDRIVEN, counted

TRUSTING: Final = Limits(trust_keys=True)
# The first cell owns bucket 0, and thus the records whose tenant cannot be told.
FIRST: Final = Cell(frozenset({0, bucket_of("north")}))
SECOND: Final = Cell(ALL_BUCKETS - FIRST.buckets)
CELLS: Final = (FIRST, SECOND)


def form(tenant_id: object = "north", data: object = hostile.DATA["form.submitted"], **fields: object) -> bytes:
    return json.dumps(hostile.envelope("form.submitted", data, **{"tenantid": tenant_id, **fields})).encode()


def fetched(partition: TopicPartition, *records: tuple[bytes | None, bytes | None]) -> list[ConsumerRecord]:
    """Return records of these keys and values."""
    headers = ORIGIN if partition == REDRIVEN else ()
    return [
        ConsumerRecord(*partition, 10 + number, hostile.TIMESTAMP_MS, 0, key, value, None, 0, 0, headers)
        for number, (key, value) in enumerate(records)
    ]


def decoded(cell: Cell, records: batches.FetchedRecords, limits: Limits = TRUSTING) -> batches.Batch:
    batch = batches.Batch(1, 0, Decoder(hostile.KINDS, limits, cell), records)
    for _ in batches.decoding(batch, index.Index(), REDRIVE):
        pass
    return batch


def sorts(cell: Cell, records: batches.FetchedRecords, limits: Limits = TRUSTING) -> dict[str, float]:
    return {outcome: number for (_, outcome), number in counted(decoded(cell, records, limits)).items()}


# --- which cell takes a record ---


def test_an_event_is_taken_by_the_cell_of_its_tenant_alone() -> None:
    records = {FORMS: fetched(FORMS, (None, form("north")), (b"south:c", form("south")), (b"c", form("south")))}
    for limits in (Limits(), TRUSTING):
        assert sorts(FIRST, records, limits) == {"unmatched": 1, FOREIGN_TENANT: 2}
        assert sorts(SECOND, records, limits) == {"unmatched": 2, FOREIGN_TENANT: 1}


@pytest.mark.parametrize(
    "value", [form("south", time="2099-01-01T00:00:00Z"), form("south", data={}), form("south", type="order.placed")]
)
def test_a_foreign_record_is_no_dead_letter_and_no_foreign_type(value: bytes) -> None:
    assert sorts(FIRST, {FORMS: fetched(FORMS, (None, value))}) == {FOREIGN_TENANT: 1}
    assert FOREIGN_TENANT not in sorts(SECOND, {FORMS: fetched(FORMS, (None, value))})


@pytest.mark.parametrize("value", [b"{", form(None), form("north", time="yesterday"), form("a\x00")])
def test_a_record_whose_tenant_cannot_be_told_is_the_dead_letter_of_bucket_0(value: bytes) -> None:
    for key in (None, b"c-1", b":", b"\xff:c", b"a%00b:c", b"x" * 300 + b":c"):
        records = {FORMS: fetched(FORMS, (key, value))}
        assert sorts(FIRST, records) == {"dead_letter": 1}
        assert sorts(SECOND, records) == {FOREIGN_TENANT: 1}
        assert sorts(SECOND, records, Limits()) == {FOREIGN_TENANT: 1}


def test_a_trusted_key_tells_the_tenant_where_the_event_does_not() -> None:
    records = {FORMS: fetched(FORMS, (b"south:c", b"{"))}
    assert sorts(FIRST, records) == {FOREIGN_TENANT: 1}
    assert sorts(SECOND, records) == {"dead_letter": 1}
    assert sorts(FIRST, records, Limits()) == {"dead_letter": 1}  # the key is not trusted


def test_a_record_too_large_to_be_read_is_the_dead_letter_of_one_cell() -> None:
    for key, owner in ((None, FIRST), (b"south:c", SECOND), (b"north:c", FIRST)):
        record = OversizedRecord(7, hostile.TIMESTAMP_MS, 0, key, 2**30)
        assert [letter.reason for letter in decoded(owner, {FORMS: [record]}).letters] == ["too_large"]
        (other,) = (cell for cell in CELLS if cell is not owner)
        assert sorts(other, {FORMS: [record]}) == {FOREIGN_TENANT: 1}


@pytest.mark.parametrize("partition", [FORMS, REDRIVEN])
@pytest.mark.parametrize("value", [form("south"), form("south", data={}), form("south", type="order.placed")])
def test_a_key_and_an_event_of_different_cells_are_a_dead_letter_of_the_keys_cell(
    partition: TopicPartition, value: bytes
) -> None:
    records = {partition: fetched(partition, (b"north:c", value))}
    (letter,) = decoded(FIRST, records).letters
    assert (letter.reason, letter.tenant_id) == ("invalid_envelope", "north")
    assert letter.message == "key: `key` names a tenant of another cell than the event"
    assert sorts(SECOND, records) == {FOREIGN_TENANT: 1}
    assert FOREIGN_TENANT not in sorts(SECOND, records, Limits())  # where keys are not trusted, the event decides


def test_a_key_of_another_tenant_of_the_same_cell_does_no_harm() -> None:
    cell = Cell(frozenset({bucket_of("north"), bucket_of("south")}))
    assert sorts(cell, {FORMS: fetched(FORMS, (b"north:c", form("south")))}) == {"unmatched": 1}


def test_a_record_with_a_trusted_foreign_key_is_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(hostile.KINDS, TRUSTING, FIRST)
    monkeypatch.setattr(Decoder, "decode_left", None)
    decoder._fast = dict.fromkeys(hostile.KINDS, _decode_none)
    records = fetched(FORMS, (b"south:c", b"{" * 100_000), (b"s%6Futh:c", None))
    batch = batches.Batch(1, 0, decoder, {FORMS: records})
    for _ in batches.decoding(batch, index.Index(), REDRIVE):
        pass
    assert [found for *_, found in batch.skipped] == [Skipped(FOREIGN_TENANT, "", "south")] * 2


def _decode_none(records: Sequence[FetchedRecord], *_: object) -> Decoded:
    assert not records
    return [], [], []


def test_a_redriven_record_without_a_topic_is_the_dead_letter_of_one_cell() -> None:
    record = ConsumerRecord(*REDRIVEN, 1, hostile.TIMESTAMP_MS, 0, None, form("south"), None, 0, 0, ())
    assert sorts(FIRST, {REDRIVEN: [record]}) == {"dead_letter": 1}
    assert sorts(SECOND, {REDRIVEN: [record]}) == {FOREIGN_TENANT: 1}


def test_lifecycle_messages_of_other_cells_are_skipped() -> None:
    value = json.dumps(hostile.envelope("workflow.activated", hostile.DATA["workflow.activated"])).encode()
    batch = decoded(SECOND, {LIFECYCLE: fetched(LIFECYCLE, (None, value))})
    assert (batch.items, batch.has_lifecycle, batch.has_no_effects) == ([], False, True)
    assert decoded(FIRST, {LIFECYCLE: fetched(LIFECYCLE, (None, value))}).has_lifecycle


def test_a_foreign_event_without_a_time_is_not_counted_as_dated_by_its_record() -> None:
    for tenant_id in ("south", 7):  # decoded the fast and the careful way
        batch = decoded(FIRST, {FORMS: fetched(FORMS, (None, form(tenant_id, time=None)))}, Limits())
        assert batch.without_time == []


def test_the_tenant_of_a_foreign_record_can_be_told() -> None:
    (record,) = fetched(FORMS, (None, form("south")))
    assert record_tenants.tenant_of(Decoder(hostile.KINDS, Limits(), FIRST), "form-submitted", record) == "south"


# --- what is made of them ---


def test_goals_that_change_meanwhile_find_no_event_of_another_cell() -> None:
    records = {FORMS: fetched(FORMS, (None, form("south")), (None, form("north")))}
    batch = decoded(FIRST, records)
    goal_index = index.Index()
    goal_index.replace((), {}, 1)
    batch.match(goal_index)
    assert [found.tenant_id for *_, found in batch.skipped] == ["south"]
    assert counted(batch) == {("form-submitted", "unmatched"): 1, ("form-submitted", FOREIGN_TENANT): 1}


def test_the_places_of_foreign_records_are_told_for_the_breaker() -> None:
    batch = decoded(FIRST, {FORMS: fetched(FORMS, (None, form("south")), (None, b"{"), (b"south:c", b"{"))})
    assert fetched_order.foreign_places(batch, "form-submitted") == {0, 2}
    assert fetched_order.foreign_places(batch, "stage-changed") == set()
    assert [*fetched_order.letters_in_order(batch, "form-submitted")] == [1]


def kept_by(cell: Cell, *values: bytes) -> fetched_events.EventsOfPartition:
    records = fetched(FORMS, *((None, value) for value in values))
    return fetched_events.decode(Decoder(hostile.KINDS, Limits(), cell), FORMS, records, groups.Topics(), hostile.NOW)


def test_insight_counts_foreign_records_and_keeps_none() -> None:
    values = form("south"), form("north"), b"{"
    of_second = kept_by(SECOND, *values)
    assert [event.tenant_id for event in of_second.decoded] == ["south"]
    assert of_second.outcomes == Counter({FOREIGN_TENANT: 2})
    assert kept_by(FIRST, *values).outcomes == Counter({FOREIGN_TENANT: 1, "malformed": 1})


# --- whatever comes ---


@functools.lru_cache(maxsize=64)
def decoder_of(limits: Limits, *, careful: bool) -> Decoder:
    decoder = Decoder(hostile.KINDS, limits)
    if careful:
        decoder._fast = dict.fromkeys(hostile.KINDS, lambda records, *_: ([], records, []))
    return decoder


def outcome_of(cell: Cell | None, limits: Limits, record: hostile.Record, *, careful: bool = False) -> Outcome | None:
    decoder = decoder_of(limits, careful=careful)
    decoder.cell = cell or Cell()
    decoder.without_time.clear()
    value, headers = record.value, record.headers
    args = (record.topic, value, headers, record.timestamp_ms, hostile.NOW, 17)
    outcome = decoder.decode(*args, key=record.key, position=PLACE)
    assert decoder.without_time == {} or isinstance(outcome, events.Event)
    return outcome


def check(record: hostile.Record, limits: Limits, buckets: frozenset[int]) -> None:
    """Check that of two cells one takes the record, as a single installation would, and the other skips it."""
    cells = (Cell(buckets), Cell(ALL_BUCKETS - buckets))
    alone = outcome_of(None, limits, record)
    of_cells = [outcome_of(cell, limits, record) for cell in cells]
    for cell, outcome in zip(cells, of_cells, strict=True):
        assert outcome_of(cell, limits, record, careful=True) == outcome
    if alone is None and not (limits.trust_keys and record.key):
        assert of_cells == [None, None]
        return
    own = [found for found in of_cells if not (isinstance(found, Skipped) and found.outcome == FOREIGN_TENANT)]
    assert len(own) == 1
    is_contradiction = isinstance(own[0], Malformed) and own[0].pointer == "key" and own[0] != alone
    assert own[0] == alone or (is_contradiction and limits.trust_keys)


@pytest.mark.parametrize("record", [pytest.param(record, id=record.name) for record in ALL])
@pytest.mark.parametrize("trust_keys", [False, True])
def test_a_hostile_record_is_one_cells_and_comes_to_what_it_would_alone(
    record: hostile.Record, trust_keys: bool
) -> None:
    limits = Limits(
        **{name: getattr(record.limits, name) for name in Limits.__struct_fields__[:-1]}, trust_keys=trust_keys
    )
    check(record, limits, FIRST.buckets)


KEYS: Final = (
    st.none() | st.sampled_from([b"south:c", b"north:c", b"s%C3%BCd:c", b"%ff:c", b"south"]) | st.binary(max_size=4)
)


@settings(max_examples=examples(300))
@given(near_misses.records(), KEYS, st.booleans(), st.frozensets(st.integers(0, 1023), max_size=600))
def test_of_two_cells_one_takes_a_record_whatever_it_is(
    record: tuple[str, bytes, Headers, int], key: bytes | None, trust_keys: bool, buckets: frozenset[int]
) -> None:
    topic, value, headers, timestamp_ms = record
    limits = Limits(default_tenant="south", trust_keys=trust_keys)
    kind = next(kind for kind, of_kind in hostile.TOPIC_OF_KIND.items() if of_kind == topic)
    check(hostile.Record("", "", value, kind, headers, timestamp_ms, key), limits, buckets)
