"""`goalworker doctor` finds problems and names the remedies."""

import json
import os

import pytest

from goalworker.admin import doctor_senders
from goalworker.postgres import connections
from tests.kit import shells, support
from tests.kit.shells import Shell


def test_doctor_finds_no_problem_in_a_correct_installation(with_both: Shell) -> None:
    findings = with_both("doctor", "--json").rows
    assert {finding["check"] for finding in findings} == {
        *("settings", "broker", "topics", "rights", "insight", "senders", "hidden"),
        *("database", "clocks", "limits", "locks", "migrations", "tracking", "outbox", "exits", "cell"),
    }
    amiss = [finding["detail"] for finding in findings if finding["state"] != "ok"]
    assert [detail for detail in amiss if "is not compacted" not in detail] == []


async def test_doctor_names_the_remedy_of_each_problem(
    with_database: Shell,
    bootstrap_servers: str,
    absent_topics: dict[str, str],
    administrator: connections.Connection,
) -> None:
    letters, tags = absent_topics["dead_letters"], absent_topics["tag_added"]
    await shells.create_topic(bootstrap_servers, letters)
    await shells.create_topic(bootstrap_servers, tags, max_message_bytes="3000000", retention_ms="60000")
    await administrator.execute("INSERT INTO installation VALUES (1, false)")
    await administrator.execute(
        "INSERT INTO paused_topics VALUES ($1, true, clock_timestamp(), 'too_large', 0, 0)", tags
    )
    await administrator.execute(
        "INSERT INTO outbox (topic, key, value, created_at) VALUES ('workflow_exit', '', '', now() - interval '1 h')"
    )
    shell = with_database.set(shells.variables_of(bootstrap_servers, absent_topics))
    outcome = shell("doctor")
    assert (outcome.code, outcome.err) == (1, "")
    expected = [
        ("problem", "topics", "`goalworker topics create`"),
        ("problem", "topics", f"raise max.message.bytes of {letters} to 16777216"),
        ("warn", "topics", "raise its retention.ms"),
        ("problem", "tracking", "GOALWORKER_ENROLLMENTS__TRACKING=false"),
        ("warn", "outbox", "is a worker running"),
        ("problem", "paused", f"`goalworker topics resume {tags}`"),
    ]
    amiss = [line for line in outcome.out.splitlines() if not line.startswith("ok ")]
    for line, (state, check, remedy) in zip(amiss, expected, strict=True):
        assert line.split()[:2] == [state, check]
        assert remedy in line


@pytest.mark.parametrize(
    ("logical", "configuration", "says"),
    [
        ("tag_added", {"cleanup_policy": "compact"}, "keeps only the last event of each contact"),
        ("workflow_lifecycle", {"cleanup_policy": "compact,delete"}, "set its cleanup.policy to delete"),
        ("redrive", {"message_timestamp_type": "LogAppendTime"}, "message.timestamp.type to CreateTime"),
        ("redrive", {"retention_ms": "604800000"}, "set its retention.ms to -1"),
    ],
)
async def test_doctor_reports_a_topic_configuration_that_loses_events(
    shell: Shell,
    bootstrap_servers: str,
    absent_topics: dict[str, str],
    logical: str,
    configuration: dict[str, str],
    says: str,
) -> None:
    configuration = {"retention_ms": "-1", **configuration}
    await shells.create_topic(bootstrap_servers, absent_topics[logical], **configuration)
    findings = json.loads(shell.set(shells.variables_of(bootstrap_servers, absent_topics))("doctor", "--json").out)
    problems = [finding["detail"] for finding in findings if finding["state"] == "problem"]
    assert any(detail.startswith(absent_topics[logical]) and says in detail for detail in problems), problems


@pytest.mark.parametrize(
    "command",
    [("db", "upgrade"), ("run",), ("api", "--port", "0", "--insecure-tenant", "acme"), ("keys", "list"), ("doctor",)],
)
def test_a_database_that_cannot_hold_every_text_is_refused(
    shell: Shell, postgres_url: str, bootstrap_servers: str, command: tuple[str, ...]
) -> None:
    how = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    with support.fresh_database(postgres_url, how) as name:
        url = support.with_database(postgres_url, name)
        settings = {"GOALWORKER_DATABASE__URL": url, "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers}
        outcome = shell.set({**settings, "GOALWORKER_OPS__PORT": "0"})(*command)
    assert outcome.code == 1
    assert "its encoding is LATIN1" in (outcome.out if command == ("doctor",) else shells.last_words(outcome))


def test_a_database_whose_advisory_locks_do_not_lock_is_refused(
    shell: Shell, database_url: str, bootstrap_servers: str
) -> None:
    support.run(support.disable_advisory_locks(database_url))
    settings = {"GOALWORKER_DATABASE__URL": database_url, "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers}
    refused = shell.set(settings)("db", "upgrade")
    assert refused.code == 1
    assert "two transactions took the same one" in shells.last_words(refused)
    findings = json.loads(shell.set(settings)("doctor", "--json").out)
    found = [finding for finding in findings if finding["check"] == "locks"]
    assert [finding["state"] for finding in found] == ["problem"]
    assert "Use PostgreSQL itself" in found[0]["detail"]


def test_doctor_continues_if_a_server_is_unreachable(shell: Shell) -> None:
    outcome = shell.set(shells.NOWHERE)("doctor")
    assert (outcome.code, outcome.err) == (1, "")
    assert [line.split()[:2] for line in outcome.out.splitlines()] == [
        ["ok", "settings"],
        ["problem", "broker"],
        ["problem", "database"],
    ]


def test_doctor_lists_every_invalid_setting(shell: Shell) -> None:
    outcome = shell("doctor", GOALWORKER_KAFKA__GROUP="x", GOALWORKER_BATCH__MAX_RECORDS="0")
    assert (outcome.code, outcome.err) == (1, "")
    assert [line.split()[:2] for line in outcome.out.splitlines()] == [["problem", "settings"]] * 2


async def test_doctor_reports_that_a_login_lacks_the_roles(
    with_database: Shell, database_url: str, administrator: connections.Connection
) -> None:
    login = f"stranger_{os.getpid()}"
    await administrator.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'x'")
    try:
        host = database_url.rpartition("@")[2]
        outcome = with_database("doctor", GOALWORKER_DATABASE__URL=f"postgresql://{login}:x@{host}")
    finally:
        await administrator.execute(f"DROP ROLE {login}")
    refused = [line for line in outcome.out.splitlines() if line.startswith("problem  rights")]
    assert len(refused) == 2
    assert all("`goalworker db roles`" in line for line in refused)


@pytest.mark.real_world("klag-exporter#104", "an open transaction hides every later record, and lag is 0")
async def test_doctor_names_the_producer_whose_open_transaction_hides_records(
    with_both: Shell, bootstrap_servers: str, topics: dict[str, str]
) -> None:
    topic = topics["tag_added"]
    async with shells.producing(bootstrap_servers, transactional_id=f"crm-{topic}") as theirs:
        await theirs.begin_transaction()
        await theirs.send_and_wait(topic, b"{}", partition=2)
        findings = with_both("doctor", "--json").rows
        await theirs.abort_transaction()
    (found,) = [finding for finding in findings if finding["check"] == "hidden"]
    assert found["state"] == "warn"
    assert f"1 record is hidden in {topic}[2] by the open transaction of producer " in found["detail"]
    assert f"(transactional id crm-{topic})" in found["detail"]
    command = f"abort --topic {topic} --partition 2 --start-offset 0"
    assert f"kafka-transactions.sh --bootstrap-server {bootstrap_servers} {command}" in found["detail"]


async def test_doctor_names_the_tenants_that_send_mostly_malformed_records(
    with_both: Shell, bootstrap_servers: str, topics: dict[str, str]
) -> None:
    def sent(tenant_id: str, data: dict[str, str]) -> bytes:
        envelope = {"specversion": "1.0", "id": "1", "source": "/crm", "type": "contact.tag.added", "data": data}
        return json.dumps({**envelope, "tenantid": tenant_id, "time": "2026-05-01T12:00:00Z"}).encode()

    topic = topics["tag_added"]
    good, bad = {"contact_id": "c", "tag_id": "t"}, {"contact_id": "c"}
    values = [sent("acme inc", bad)] * 12 + [sent("acme inc", good)] * 5 + [sent("few", bad)] * 9
    values += [sent("half", bad)] * 10 + [sent("half", good)] * 10 + [b"{"] * 20
    async with shells.producing(bootstrap_servers) as producer:
        for number, value in enumerate(values):
            await producer.send_and_wait(topic, value, partition=number % 3)
    (found,) = [finding for finding in with_both("doctor", "--json").rows if finding["check"] == "senders"]
    assert found["state"] == "warn"
    assert found["detail"].startswith(f"12 of the newest 17 records of acme inc in {topic} are malformed: ")
    assert f"`goalworker dlq list --tenant 'acme inc' --topic {topic}`" in found["detail"]
    async with shells.producing(bootstrap_servers) as producer:
        for number in range(doctor_senders.RECORDS + 3):
            await producer.send(topic, sent("acme inc", good), partition=number % 3)
        await producer.flush()
    (ok,) = [finding for finding in with_both("doctor", "--json").rows if finding["check"] == "senders"]
    assert (ok["state"], ok["detail"]) == ("ok", "no tenant's newest records are mostly malformed")


async def test_doctor_checks_the_configuration_of_existing_topics_only(
    with_database: Shell, bootstrap_servers: str, absent_topics: dict[str, str]
) -> None:
    shell = with_database.set(shells.variables_of(bootstrap_servers, absent_topics))
    assert "configuration" not in shell("doctor").out
    await shells.create_topic(bootstrap_servers, absent_topics["stage_changed"])
    assert "the configuration of the existing topics fits" in shell("doctor").out
