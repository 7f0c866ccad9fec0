"""`goalworker doctor`: what it finds, and the remedy that it names."""

import os

import pytest

from goalworker import database
from tests.integration import shells
from tests.integration.shells import Shell


def test_doctor_finds_nothing_amiss_where_nothing_is(with_both: Shell) -> None:
    findings = with_both("doctor", "--json").rows
    assert {finding["check"] for finding in findings} == {
        *("settings", "broker", "topics", "rights", "hidden"),
        *("database", "clocks", "limits", "migrations", "tracking", "outbox"),
    }
    amiss = [finding["detail"] for finding in findings if finding["state"] != "ok"]
    assert [detail for detail in amiss if "is not compacted" not in detail] == []


async def test_doctor_says_what_to_do_where_something_is_amiss(
    with_database: Shell,
    bootstrap_servers: str,
    absent_topics: dict[str, str],
    administrator: database.Connection,
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


def test_doctor_goes_on_where_nothing_answers(shell: Shell) -> None:
    outcome = shell.set(shells.NOWHERE)("doctor")
    assert (outcome.code, outcome.err) == (1, "")
    assert [line.split()[:2] for line in outcome.out.splitlines()] == [
        ["ok", "settings"],
        ["problem", "broker"],
        ["problem", "database"],
    ]


def test_doctor_lists_every_setting_that_is_wrong(shell: Shell) -> None:
    outcome = shell("doctor", GOALWORKER_KAFKA__GROUP="x", GOALWORKER_BATCH__MAX_RECORDS="0")
    assert (outcome.code, outcome.err) == (1, "")
    assert [line.split()[:2] for line in outcome.out.splitlines()] == [["problem", "settings"]] * 2


async def test_doctor_sees_that_a_login_may_not_take_the_roles(
    with_database: Shell, database_url: str, administrator: database.Connection
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


async def test_doctor_judges_the_configuration_of_topics_that_are_there_only(
    with_database: Shell, bootstrap_servers: str, absent_topics: dict[str, str]
) -> None:
    shell = with_database.set(shells.variables_of(bootstrap_servers, absent_topics))
    assert "configuration" not in shell("doctor").out
    await shells.create_topic(bootstrap_servers, absent_topics["stage_changed"])
    assert "the configuration of those that are there fits" in shell("doctor").out
