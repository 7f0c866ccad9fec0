"""The health page: a verdict from PostgreSQL alone, and lag, dead letters and redrives as Kafka tells, if it does."""

import contextlib
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiokafka
import httpx
import pytest

from goalworker.api import middleware
from goalworker.pipeline import dead_letters
from goalworker.postgres import connections
from tests.kit import console, running_api, shells, support
from tests.kit.shells import Shell

HEALTH = "/console/health"
LETTERS, REDRIVE, LAG = f"{HEALTH}/dead-letters", f"{HEALTH}/redrive", f"{HEALTH}/lag"
PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial"}
HOSTILE = "<img src=x onerror=alert(1)>"
CONTACT = "contact-4711"


async def progress(administrator: connections.Connection, seconds: float, seen_seconds: float | None = None) -> None:
    """Write that both partitions of two topics are judged until some seconds ago."""
    await administrator.execute("DELETE FROM progress")
    await administrator.execute(
        "INSERT INTO progress (topic, partition, judged_until, written_at)"
        " SELECT topic, partition, clock_timestamp() - make_interval(secs => $1),"
        " clock_timestamp() - make_interval(secs => $2)"
        " FROM unnest(ARRAY['tag-added', 'form-submitted']) AS topic, generate_series(0, 1) AS partition",
        float(seconds),
        float(seconds if seen_seconds is None else seen_seconds),
    )


def text_of(page: httpx.Response, status: int = 200) -> str:
    """Return the text of a page or fragment, without markup, with single spaces."""
    assert page.status_code == status, page.text
    return " ".join(re.sub(r"<[^>]*>", " ", page.text).split())


# --- what PostgreSQL tells ---


async def test_an_installation_that_keeps_up_is_healthy(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await progress(administrator, 2)
    text = text_of(await client.get(HEALTH))
    assert "ok Healthy: workers keep up, and nothing waits longer than it should." in text
    assert "is judged." in text
    assert "No topic is paused." in text
    assert "No message waits to be published." in text


async def test_each_fault_is_named_with_what_helps(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await progress(administrator, 300, 200)
    await administrator.execute(
        'INSERT INTO paused_topics (topic, is_paused, paused_at, reason, partition, "offset")'
        " VALUES ('tag-added', true, now(), 'invalid_json', 0, 17);"
        " INSERT INTO outbox (topic, key, value, created_at)"
        " VALUES ('workflow_exit', 'secret key', 'secret value', now() - interval '2 minutes');"
        " INSERT INTO refused_messages (id, topic, key, value, created_at, reason, size_bytes, limit_bytes)"
        " VALUES (1, 'goal_achieved', 'secret key', 'secret value', now(), 'larger than max.message.bytes', 900, 800)"
    )
    page = await client.get(HEALTH)
    text = text_of(page)
    assert "problem Not healthy: 3 problems." in text
    assert "Workers are down, or cannot reach Kafka: no event is judged , since 3 min ago" in text
    assert "goalworker topics resume tag-added" in text
    assert "goal-achieved refuses 1 message of 900 bytes" in text
    assert "Messages wait to be published for longer than a minute , since 2 min ago" in text
    assert "workflow-exit 1 2 min ago" in text
    assert "secret" not in page.text


async def test_waiting_exits_and_jobs_are_those_of_the_tenant_alone(
    client: httpx.AsyncClient, other: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    workflow = f"{HOSTILE}/../a%2F"
    await administrator.execute(
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, exit_waits)"
        " VALUES ($1, 'e1', $2, 'c', true)",
        running_api.TENANT,
        workflow,
    )
    await administrator.execute(
        "INSERT INTO workflow_states VALUES ($1, $2, now() - interval '1 hour', false)", running_api.TENANT, workflow
    )
    await administrator.execute(
        "INSERT INTO jobs (tenant_id, job_id, kind, workflow_id, request, created_by, state, heartbeat_at)"
        " VALUES ($1, gen_random_uuid(), 'plan', $2, '{}', 'ann', 'running', now() - interval '5 minutes')",
        running_api.TENANT,
        workflow,
    )
    page = await client.get(HEALTH)
    text = text_of(page)
    assert "&lt;img src=x onerror=alert(1)&gt;/../a%2F 1 1 h ago" in text
    assert "No process works on 1 plan or backfill" in text
    assert HOSTILE not in page.text
    (address, *_) = set(re.findall(r'href="(/console/workflows/[^"]+)"', page.text))
    assert address == "/console/workflows/%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%252F..%252Fa%25252F"
    assert "onerror" not in text_of(await other.get(HEALTH))


async def test_the_page_refreshes_itself_by_its_middle_part(client: httpx.AsyncClient) -> None:
    whole, part = await client.get(HEALTH), await client.get(HEALTH, headers=PARTIAL)
    assert ("<html" in whole.text, "<html" in part.text) == (True, False)
    assert f'hx-get="{HEALTH}" hx-trigger="every 15s"' in whole.text
    assert "No worker has run yet" in text_of(part)


# --- the banner ---


@pytest.mark.parametrize(
    ("seconds", "seen_seconds", "sentence"),
    [
        (2, 2, ""),
        (59, 59, ""),
        (90, 80, "Workers are down, or cannot reach Kafka: no event is judged, since 1 min ago . Health"),
        (70, 5, "Workers run and make no progress: no partition is judged to its end, since 1 min ago . Health"),
    ],
)
async def test_a_banner_appears_when_progress_stands_still(
    client: httpx.AsyncClient,
    administrator: connections.Connection,
    seconds: float,
    seen_seconds: float,
    sentence: str,
) -> None:
    await progress(administrator, seconds, seen_seconds)
    banner = await client.get("/console/banner", headers=PARTIAL)
    assert text_of(banner) == sentence


async def test_a_banner_is_read_once_for_everybody_for_five_seconds(
    client: httpx.AsyncClient, other: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await progress(administrator, 600)
    assert "Workers are down" in text_of(await client.get("/console/banner"))
    await progress(administrator, 1)
    assert "Workers are down" in text_of(await other.get("/console/banner"))


async def test_every_page_asks_for_the_banner(client: httpx.AsyncClient) -> None:
    page = await client.get("/console")
    assert 'hx-get="/console/banner" hx-trigger="load, every 30s"' in page.text


async def test_a_stranger_gets_neither_page_nor_banner(stranger: httpx.AsyncClient) -> None:
    for address in (HEALTH, LAG, LETTERS, f"{LETTERS}/0/0", REDRIVE, "/console/banner"):
        assert (await stranger.get(address)).status_code == 303


# --- without Kafka ---


async def test_without_settings_of_kafka_the_page_says_which_one_is_missing(client: httpx.AsyncClient) -> None:
    for address in (LAG, LETTERS, f"{LETTERS}/0/0", REDRIVE):
        page = await client.get(address)
        assert "set GOALWORKER_KAFKA__BOOTSTRAP_SERVERS." in text_of(page)
        assert ("<html" in page.text, "<h1>" in page.text) == (True, True)
        if address != REDRIVE:
            assert "<html" not in (await client.get(address, headers=PARTIAL)).text


@contextlib.contextmanager
def silent_broker() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["refusing", "silent"])
async def test_a_broker_that_is_away_costs_a_sentence_and_not_the_page(
    database_url: str, administrator: connections.Connection, kind: str
) -> None:
    await progress(administrator, 2)
    with silent_broker() as address:
        where = address if kind == "silent" else "127.0.0.1:1"
        variables = {**running_api.TOKENS, "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS": where}
        async with console.running(database_url, variables) as api, console.logged_in(api) as client:
            begun = time.monotonic()
            assert "Healthy" in text_of(await client.get(HEALTH))
            assert time.monotonic() - begun < 2
            for asked in (LAG, f"{LETTERS}/0/0", LETTERS):
                begun = time.monotonic()
                page = await client.get(asked)
                assert time.monotonic() - begun < 5
                assert "The log of the API and `goalworker doctor` say" in text_of(page)
                assert where not in page.text
            begun = time.monotonic()
            await client.get(LAG)
            assert time.monotonic() - begun < 0.5 or kind == "silent"


async def test_a_question_to_kafka_may_take_longer_than_other_requests(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "ANSWER_SECONDS", 2.0)
    with silent_broker() as address:
        variables = {**running_api.TOKENS, "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS": address}
        async with console.running(database_url, variables) as api, console.logged_in(api) as client:
            assert "Kafka did not answer within 4 s." in text_of(await client.get(LAG))


# --- with Kafka ---


@pytest.fixture
async def with_broker(
    database_url: str, bootstrap_servers: str, topics: dict[str, str]
) -> AsyncIterator[running_api.Api]:
    variables = {**running_api.TOKENS, **shells.variables_of(bootstrap_servers, topics)}
    async with console.running(database_url, variables) as api:
        yield api


@pytest.fixture
async def ours(with_broker: running_api.Api) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of a tenant, whose console has a broker."""
    async with console.logged_in(with_broker) as client:
        yield client


@pytest.fixture
async def theirs(with_broker: running_api.Api) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of another tenant."""
    async with console.logged_in(with_broker, running_api.OTHER) as client:
        yield client


class Letters:
    """Dead letters that a test sends to partition 0, in order."""

    def __init__(self, bootstrap_servers: str, topics: Mapping[str, str]) -> None:
        self._bootstrap_servers = bootstrap_servers
        self.topics = topics

    async def send(
        self,
        value: bytes,
        *,
        topic: str = "tag_added",
        key: bytes | None = None,
        reason: str = "invalid_data",
        message: str = "/data/tag_id: is missing",
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> None:
        record = aiokafka.ConsumerRecord(
            self.topics[topic], 1, 7, 1_700_000_000_000, 0, key, value, None, 0, len(value), headers
        )
        target = self.topics["dead_letters"]
        made = dead_letters.record_of(
            dead_letters.DeadLetter(record, reason, message), target, "goalworker", redriven=False
        )
        async with shells.producing(self._bootstrap_servers) as producer:
            await producer.send_and_wait(target, made.value, key=made.key, partition=0, headers=list(made.headers))


@pytest.fixture
def letters(bootstrap_servers: str, topics: dict[str, str]) -> Letters:
    return Letters(bootstrap_servers, topics)


def envelope(tenant_id: str | None, **data: object) -> bytes:
    """Return an event without what its topic needs."""
    given = {"specversion": "1.0", "id": "1", "source": "/crm", "type": "contact.tag.added", "data": data}
    return json.dumps({**given, **({"tenantid": tenant_id} if tenant_id else {})}).encode()


async def test_the_lag_is_that_of_the_command(
    ours: httpx.AsyncClient, with_kafka: Shell, bootstrap_servers: str, topics: dict[str, str]
) -> None:
    async with shells.producing(bootstrap_servers) as producer:
        for _ in range(3):
            await producer.send_and_wait(topics["tag_added"], b"{", partition=0)
    text = text_of(await ours.get(LAG, headers=PARTIAL))
    assert "3 records wait for a worker, the oldest for" in text
    rows = with_kafka("lag", "--json").rows
    assert sum(row["lag"] for row in rows) == 3
    for row in rows:
        assert f"{row['topic']} {row['partition']} \N{EN DASH} {row['end']} {row['lag']}" in text


async def test_letters_of_others_are_counted_and_never_shown(
    ours: httpx.AsyncClient, theirs: httpx.AsyncClient, letters: Letters
) -> None:
    await letters.send(envelope(running_api.TENANT, contact_id="ours-1234", note="ours alone"))
    await letters.send(envelope(None, note="nobody's"), message="of nobody", reason="invalid_envelope")
    await letters.send(envelope("acme", note="unsure"), key=b"other:x", topic="form_submitted", message="of two")
    page = await ours.get(LETTERS)
    text = text_of(page)
    assert "3 dead letters of all tenants." in text
    assert f"{letters.topics['tag_added']} invalid_envelope 1 0" in text
    assert f"{letters.topics['tag_added']} invalid_data 1 1" in text
    assert f'href="{LETTERS}/0/0"' in page.text
    assert ("of nobody" in page.text, f'href="{LETTERS}/0/1"' in page.text) == (False, False)
    seen = await ours.get(f"{LETTERS}/0/0?reveal=true")
    assert "ours alone" in seen.text
    for client, offset in ((theirs, 0), (ours, 1), (theirs, 1), (ours, 99)):
        refused = await client.get(f"{LETTERS}/0/{offset}?reveal=true")
        assert "Your tenant has no dead letter there" in text_of(refused, 404)
        assert ("ours" in refused.text, "nobody" in refused.text) == (False, False)
    other_page = await theirs.get(LETTERS)
    assert f"{letters.topics['tag_added']} invalid_data 1 0" in text_of(other_page)
    assert f'href="{LETTERS}/0/0"' not in other_page.text


async def test_a_letter_that_names_two_tenants_is_shown_to_neither(
    ours: httpx.AsyncClient, theirs: httpx.AsyncClient, letters: Letters
) -> None:
    await letters.send(b"{", key=b"acme:c", headers=(("ce_tenantid", b"other"),), reason="invalid_json")
    for client in (ours, theirs):
        assert (await client.get(f"{LETTERS}/0/0")).status_code == 404
        assert "invalid_json 1 0" in text_of(await client.get(LETTERS))


async def test_the_sentences_in_lists_mask_contacts_as_the_letters_page_does(
    ours: httpx.AsyncClient, letters: Letters
) -> None:
    await letters.send(envelope(running_api.TENANT, contact_id=CONTACT), message=f"/data/{CONTACT}: is odd")
    for address in (LETTERS, "/console/health/redrive", f"{LETTERS}/0/0"):
        page = await ours.get(address)
        assert ("…" in page.text, ": is odd" in page.text, CONTACT in page.text) == (True, True, False), address
    assert f"/data/{CONTACT}: is odd" in (await ours.get(f"{LETTERS}/0/0?reveal=true")).text


async def test_a_letter_masks_contacts_until_asked_and_escapes_what_senders_wrote(
    ours: httpx.AsyncClient, letters: Letters
) -> None:
    value = envelope(running_api.TENANT, contact_id=CONTACT, note=f"{HOSTILE} {CONTACT}", close="</code></pre>")
    await letters.send(
        value, key=f"acme:{CONTACT}".encode(), message=HOSTILE, headers=((HOSTILE, b"\xe2\x80\xaeeman"),)
    )
    masked, revealed = [await ours.get(f"{LETTERS}/0/0{query}") for query in ("", "?reveal=true")]
    for page in (masked, revealed):
        assert "&lt;img src=x onerror=alert(1)&gt;" in page.text
        assert (HOSTILE in page.text, "</code></pre>&#34;" in page.text, "\u202e" in page.text) == (False,) * 3
        assert "script-src 'self'" in page.headers["content-security-policy"]
    assert (CONTACT in masked.text, CONTACT in revealed.text) == (False, True)
    assert "hidden, 7 bytes" in text_of(masked)
    assert "\\u202eeman" in revealed.text
    listed = await ours.get(LETTERS)
    assert HOSTILE not in listed.text
    assert CONTACT not in listed.text


async def test_a_large_letter_is_cut(ours: httpx.AsyncClient, letters: Letters) -> None:
    value = envelope(running_api.TENANT, contact_id=CONTACT, note="y" * 900_000)
    await letters.send(value)
    hidden, cut = [await ours.get(f"{LETTERS}/0/0{query}") for query in ("", "?reveal=true")]
    assert f"hidden, {len(value):,} bytes" in text_of(hidden)
    assert f"Cut; it has {len(value):,} bytes." in text_of(cut)
    assert len(cut.text) < 20_000


async def test_a_preview_is_the_dry_run_of_the_shell_for_the_tenant(
    ours: httpx.AsyncClient, letters: Letters, with_kafka: Shell
) -> None:
    for number in range(22):
        await letters.send(envelope(running_api.TENANT, contact_id=f"{CONTACT}-{number}"))
    await letters.send(b"{", topic="form_submitted", reason="invalid_json", key=b"acme:c")
    await letters.send(envelope(running_api.OTHER), message="theirs")
    await letters.send(b"{", message="of nobody")

    async def preview(query: str, *words: str) -> str:
        page = await ours.get(f"{REDRIVE}?{query}")
        text = text_of(page)
        rows: Any = with_kafka("dlq", "redrive", "--tenant", running_api.TENANT, "--dry-run", "--json", *words).rows
        total = sum(row["records"] for row in rows)
        assert f"{total} letter{'' if total == 1 else 's'} would be sent again" in text
        for row in rows:
            assert f"{row['topic']} {row['reason']} {row['records']}" in text
        assert ("theirs" in text, "of nobody" in text) == (False, False)
        return page.text

    everything = await preview("")
    assert len(re.findall(rf'href="{LETTERS}/0/\d+"', everything)) == 20
    assert "goalworker dlq redrive --tenant=acme</code></pre>" in everything
    await preview("reason=invalid_json", "--reason", "invalid_json")
    await preview(f"topic={letters.topics['tag_added']}", "--topic", letters.topics["tag_added"])
    await preview("until=2020-01-01T00:00", "--until", "2020-01-01T00:00:00Z")
    await preview("since=2020-01-01T00:00", "--since", "2020-01-01T00:00:00Z")
    assert with_kafka("dlq", "redrive", "--tenant", running_api.TENANT, "--reason", "invalid_json").code == 0
    await support.until(lambda: _holds(ours, "reason=invalid_json", "0 letters would be sent again"))


async def _holds(client: httpx.AsyncClient, query: str, sentence: str) -> bool:
    """Say whether a preview says so; a preview is remembered for some seconds."""
    return sentence in text_of(await client.get(f"{REDRIVE}?{query}"))


async def test_a_preview_sends_nothing(ours: httpx.AsyncClient, letters: Letters, with_kafka: Shell) -> None:
    await letters.send(envelope(running_api.TENANT))
    assert "1 letter would be sent again" in text_of(await ours.get(REDRIVE))
    assert (await ours.post(REDRIVE)).status_code == 405
    (row,) = with_kafka("dlq", "stats", "--json").rows
    assert (row["open"], row["redriven"]) == (1, 0)


async def test_filters_that_mean_nothing_are_named_at_their_fields(ours: httpx.AsyncClient) -> None:
    page = await ours.get(f"{REDRIVE}?topic={HOSTILE}&since=yesterday&reason=bad")
    text = text_of(page, 400)
    for fault in (
        "Choose one of the topics in.",
        "Choose one of the reasons.",
        "Give a time such as 2026-05-01T12:00.",
    ):
        assert fault in text
    assert HOSTILE not in page.text
    assert 'value="yesterday"' in page.text
    assert "would be sent again" not in text
