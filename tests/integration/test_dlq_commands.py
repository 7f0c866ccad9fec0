"""`goalworker dlq` on a real broker: lists, filters, shows and counts dead letters."""

import asyncio
import json
from collections.abc import Mapping

import aiokafka
import pytest

from goalworker import config
from goalworker.cli import dlq
from goalworker.inspection import dead_letter_reading
from goalworker.pipeline import dead_letters
from tests.kit import shells, support
from tests.kit.shells import Shell


def record(topic: str, offset: int, value: bytes) -> aiokafka.ConsumerRecord:
    return aiokafka.ConsumerRecord(
        topic, 1, offset, 1_700_000_000_000, 0, b"acme:ann", value, None, 8, len(value), [("trace", b"\xff\x00")]
    )


async def dead_letter_all(bootstrap_servers: str, topics: Mapping[str, str]) -> None:
    """Send three dead letters of two topics and a foreign record to partition 0, and an aborted one to 1."""
    letters = [
        dead_letters.DeadLetter(record(topics["tag_added"], 7, b'{"x": 1}'), "invalid_data", "/data: is missing"),
        dead_letters.DeadLetter(record(topics["tag_added"], 8, b"\xff"), "invalid_json", "not UTF-8"),
        dead_letters.DeadLetter(record(topics["form_submitted"], 9, b"{"), "invalid_json", "not JSON"),
    ]
    target = topics["dead_letters"]
    async with shells.producing(bootstrap_servers) as producer:
        for letter in letters:
            made = dead_letters.record_of(letter, target, "goalworker", redriven=False)
            await producer.send_and_wait(
                target,
                made.value,
                key=made.key,
                partition=0,
                headers=list(made.headers),
                timestamp_ms=1_000 * letter.record.offset,
            )
        await producer.send_and_wait(target, b"foreign", partition=0)
    async with shells.producing(bootstrap_servers, transactional_id=target) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(target, b"aborted", partition=1)
        await producer.abort_transaction()
    await support.until_transactions_ended(bootstrap_servers, target)


@pytest.fixture
async def with_dead_letters(with_kafka: Shell, bootstrap_servers: str, topics: dict[str, str]) -> Shell:
    await dead_letter_all(bootstrap_servers, topics)
    return with_kafka


def test_dead_letters_are_listed_without_payload_in_order_of_time(
    with_dead_letters: Shell, topics: dict[str, str]
) -> None:
    first, *_, foreign = with_dead_letters("dlq", "list", "--json").rows
    assert first == {
        "partition": 0,
        "offset": 0,
        "time": "1970-01-01T00:00:07Z",
        "original_topic": topics["tag_added"],
        "original_partition": 1,
        "original_offset": 7,
        "reason": "invalid_data",
        "message": "/data: is missing",
        "redrive_count": 0,
    }
    assert (foreign["offset"], foreign["reason"], foreign["original_topic"]) == (3, None, None)
    header, line, *_ = with_dead_letters("dlq", "list").out.splitlines()
    assert header.split() == ["POSITION", "TIME", "ORIGIN", "REASON", "REDRIVES", "MESSAGE"]
    assert line.split()[:3] == ["0:0", "1970-01-01T00:00:07Z", f"{topics['tag_added']}:1:7"]


def test_dead_letters_are_selected_by_topic_reason_time_and_number(
    with_dead_letters: Shell, topics: dict[str, str]
) -> None:
    def listed(*words: object) -> list[int]:
        return [row["original_offset"] for row in with_dead_letters("dlq", "list", "--json", *words).rows]

    assert listed("--topic", topics["tag_added"]) == [7, 8]
    assert listed("--reason", "invalid_json") == [8, 9]
    assert listed("--since", "1970-01-01T00:00:08Z", "--until", "1970-01-01T01:00:09+01:00") == [8]
    assert listed("--since", "PT1H") == [None]
    assert listed("--max", 1) == [7]


def test_one_dead_letter_is_shown_with_headers_and_value(with_dead_letters: Shell, topics: dict[str, str]) -> None:
    lines = with_dead_letters("dlq", "show", "0:0").out.splitlines()
    assert lines[:2] == ["key: acme:ann", "trace: base64 /wA="]
    assert f"x-original-topic: {topics['tag_added']}" in lines
    assert lines[-1] == 'value: {"x": 1}'
    binary = with_dead_letters("dlq", "show", "0:1", "--json").rows
    assert (binary["value"], binary["key"]) == ({"base64": "/w=="}, {"text": "acme:ann"})
    assert {"name": "trace", "base64": "/wA="} in binary["headers"]


def test_a_missing_dead_letter_is_reported(with_dead_letters: Shell) -> None:
    shells.assert_one_sentence(with_dead_letters("dlq", "show", "0:4"), 1, "no dead letter at 0:4")
    shells.assert_one_sentence(with_dead_letters("dlq", "show", "1:0"), 1, "no dead letter at 1:0")


def test_dead_letters_are_counted_by_topic_and_reason(with_dead_letters: Shell, topics: dict[str, str]) -> None:
    rows = with_dead_letters("dlq", "stats", "--json", "--until", "1970-01-02T00:00:00Z").rows
    counted = {(row["topic"], row["reason"]): row["records"] for row in rows}
    assert counted == {
        (topics["tag_added"], "invalid_data"): 1,
        (topics["tag_added"], "invalid_json"): 1,
        (topics["form_submitted"], "invalid_json"): 1,
    }


def test_stats_distinguish_open_letters_from_redriven_ones(with_dead_letters: Shell, topics: dict[str, str]) -> None:
    assert with_dead_letters("dlq", "redrive", "--topic", topics["form_submitted"]).code == 0
    rows = with_dead_letters("dlq", "stats", "--json").rows
    counted = {(row["topic"], row["reason"]): (row["records"], row["open"], row["redriven"]) for row in rows}
    assert counted == {
        (topics["tag_added"], "invalid_data"): (1, 1, 0),
        (topics["tag_added"], "invalid_json"): (1, 1, 0),
        (topics["form_submitted"], "invalid_json"): (1, 0, 1),
        (None, None): (1, 1, 0),
    }


def test_dead_letters_are_counted_by_tenant(with_dead_letters: Shell, topics: dict[str, str]) -> None:
    assert with_dead_letters("dlq", "redrive", "--topic", topics["form_submitted"]).code == 0
    counted = with_dead_letters("dlq", "stats", "--by", "tenant", "--json").rows
    assert counted == [
        {"tenant_id": "acme", "records": 3, "open": 2, "redriven": 1},
        {"tenant_id": None, "records": 1, "open": 1, "redriven": 0},
    ]
    header, *lines = with_dead_letters("dlq", "stats", "--by", "tenant").out.splitlines()
    assert (header.split(), len(lines)) == (["TENANT", "ID", "RECORDS", "OPEN", "REDRIVEN"], 2)
    only = with_dead_letters("dlq", "stats", "--by", "tenant", "--reason", "invalid_data", "--json").rows
    assert only == [{"tenant_id": "acme", "records": 1, "open": 1, "redriven": 0}]


def test_letters_can_be_filtered_by_tenant(with_dead_letters: Shell) -> None:
    assert [row["records"] for row in with_dead_letters("dlq", "stats", "--tenant", "acme", "--json").rows] == [1, 1, 1]
    assert with_dead_letters("dlq", "stats", "--tenant", "other", "--json").rows == []
    assert len(with_dead_letters("dlq", "list", "--tenant", "acme", "--json").rows) == 3
    assert with_dead_letters("dlq", "redrive", "--tenant", "other", "--json").rows == []


@pytest.mark.parametrize(
    ("key", "value", "headers", "tenant_id"),
    [
        (b"a:b", b'{"tenantid": "c"}', [("ce_tenantid", b"d")], "d"),
        (b"a:b", b'{"tenantid": "c"}', [], "c"),
        (b"a%3Ab:c", b'{"tenantid": 7}', [], "a:b"),
        (b"a:b", b"[" * 100_000, [], "a"),
        (b"a", None, [], None),
        (b"\xff:b", None, [], None),
        (None, b"\xff", [], None),
    ],
)
def test_a_letters_tenant_is_taken_from_headers_then_value_then_key(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]], tenant_id: str | None
) -> None:
    letter = aiokafka.ConsumerRecord("dlq", 0, 0, 0, 0, key, value, None, 0, 0, headers)
    assert dead_letter_reading.tenants_of(config.load({}, env_file=None, secrets_dir=None))(letter) == tenant_id


@pytest.mark.parametrize(
    ("env", "fields", "headers", "tenant_id"),
    [
        ({}, {"tenantid": "c"}, [("ce_tenantid", b"d")], "c"),
        ({}, {"time": "2099-01-01T00:00:00Z", "tenantid": "c"}, [], "c"),
        ({"GOALWORKER_EVENTS__DEFAULT_TENANT": "home"}, {}, [], "home"),
        ({"GOALWORKER_EVENTS__TENANT_FROM": "header:X-T"}, {}, [("x-t", b"east")], "east"),
        ({"GOALWORKER_EVENTS__TENANT_FROM": "subject"}, {"subject": "west"}, [], "west"),
        ({}, {}, [], "a"),
    ],
)
def test_a_letters_tenant_is_the_one_that_the_worker_told(
    env: dict[str, str], fields: dict[str, str], headers: list[tuple[str, bytes]], tenant_id: str
) -> None:
    envelope = {"specversion": "1.0", "id": "1", "source": "/crm", "type": "contact.tag.added", "data": {}, **fields}
    value, origin = json.dumps(envelope).encode(), (dead_letters.ORIGINAL_TOPIC, b"tag-added")
    letter = aiokafka.ConsumerRecord("dlq", 0, 0, 0, 0, b"a:b", value, None, 0, 0, [*headers, origin])
    assert dead_letter_reading.tenants_of(config.load(env, env_file=None, secrets_dir=None))(letter) == tenant_id


def test_an_empty_dlq_is_reported_in_a_sentence(with_kafka: Shell) -> None:
    assert with_kafka("dlq", "list") == (0, "no dead letters\n", "")


async def test_a_long_list_is_truncated_with_a_note_on_stderr(
    with_kafka: Shell, bootstrap_servers: str, topics: dict[str, str]
) -> None:
    async with shells.producing(bootstrap_servers) as producer:
        sent = [await producer.send(topics["dead_letters"], b"{", partition=0) for _ in range(dlq.LISTED_MAX + 1)]
        await asyncio.gather(*sent)
    listed = with_kafka("dlq", "list", "--json")
    assert len(json.loads(listed.out)) == dlq.LISTED_MAX
    remark = "only the first 1000 are listed: there may be more, so give --max, --since or --until"
    assert listed.err == f"{remark}\n"
    as_json = with_kafka("dlq", "list", "--json", GOALWORKER_LOG__FORMAT="json").err
    assert json.loads(as_json)["remark"] == remark
    assert len(with_kafka("dlq", "list", "--json", "--max", "2000").rows) == dlq.LISTED_MAX + 1
