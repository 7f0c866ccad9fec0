"""The command line: usage, errors, exit codes, and commands that need no broker."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from sqlalchemy.ext import asyncio as sa_async

import goalworker
from goalworker import config
from goalworker.postgres import connections, migrations, tables
from goalworker.stores import goal_store
from tests.kit import shells, support
from tests.kit.forker import inherited
from tests.kit.shells import Shell


@pytest.mark.smoke
def test_help_lists_the_commands_and_imports_none_of_them(shell: Shell) -> None:
    script = (
        "import sys; from goalworker import __main__ as line; sys.argv = ['goalworker', '--help']\n"
        "try: line.main()\n"
        "finally: print(sorted({'aiokafka', 'sqlalchemy', 'pydantic', 'asyncio'} & set(sys.modules)), file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", script], env=inherited(), capture_output=True, text=True, check=True)
    assert "check-event" in found.stdout
    assert found.stderr == "[]\n"


@pytest.mark.smoke
def test_the_version_is_printed(shell: Shell) -> None:
    assert shell("--version") == (0, f"{goalworker.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["docotr"], "Did you mean 'doctor'?"),
        (["dlq", "show", "17"], "PARTITION:OFFSET"),
        (["dlq", "list", "--reason", "bad"], "invalid_json"),
        (["topics", "create", "--partitions", "0"], "--partitions"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_hint(shell: Shell, words: list[str], hint: str) -> None:
    outcome = shell(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert hint in outcome.err


def test_a_missing_setting_ends_with_3_and_its_name(shell: Shell) -> None:
    shells.assert_one_sentence(shell("lag"), 3, "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS is not set")
    shells.assert_one_sentence(shell("config", "show", GOALWORKER_KAFKA__GRUOP_ID="x"), 3, "GOALWORKER_KAFKA__GROUP_ID")


@pytest.mark.parametrize("words", [["db", "upgrade"], ["outbox", "status"]])
def test_an_unreachable_database_ends_with_4_and_its_address_without_the_password(
    shell: Shell, words: list[str]
) -> None:
    outcome = shell.set(shells.NOWHERE)(*words)
    shells.assert_one_sentence(outcome, 4, "nobody:***@127.0.0.1:1/none", "GOALWORKER_DATABASE__URL")
    assert "secret" not in outcome.err


@pytest.mark.parametrize("words", [["lag"], ["topics", "create"], ["dlq", "stats"]])
def test_an_unreachable_broker_ends_with_4_and_its_address(shell: Shell, words: list[str]) -> None:
    shells.assert_one_sentence(shell.set(shells.NOWHERE)(*words), 4, "127.0.0.1:1", "the connection was refused")


def test_a_login_that_the_database_refuses_ends_with_4(with_database: Shell, database_url: str) -> None:
    stranger = f"postgresql://stranger:wrong@{database_url.rpartition('@')[2]}"
    outcome = with_database("outbox", "status", GOALWORKER_DATABASE__URL=stranger)
    shells.assert_one_sentence(outcome, 4, "stranger")


def test_ctrl_c_ends_with_130_and_silence(shell: Shell) -> None:
    pipe = shell.folder / "message"
    os.mkfifo(pipe)
    process = shell.started("check-event", "--topic", "tag-added", pipe, PYTHONWARNINGS="default::DeprecationWarning")
    with process, pipe.open("wb"):  # open() returns once the command has opened the pipe too
        support.run(support.until(lambda: _sleeps(process.pid)))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == (b"", b"")
    assert process.returncode == 130


def _sleeps(pid: int) -> bool:
    """Say whether a process is blocked, here on its input."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    return state.startswith("S")


def test_a_closed_output_gives_no_traceback(shell: Shell) -> None:
    with shell.started("config", "docs") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=30)
    assert err == b""


def test_a_bug_ends_with_1_and_a_traceback(shell: Shell) -> None:
    script = (
        "import sys; from goalworker import config, __main__ as line\n"
        "config.table = lambda: 1 / 0\n"
        "sys.argv = ['goalworker', 'config', 'docs']; line.main()"
    )
    found = subprocess.run([sys.executable, "-c", script], env=inherited(), capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "this is a bug" in found.stderr
    assert "ZeroDivisionError: division by zero" in found.stderr


# --- config ---


def test_config_show_masks_the_password(shell: Shell) -> None:
    outcome = shell.set(shells.NOWHERE)("config", "show")
    shown = "GOALWORKER_DATABASE__URL=postgresql://nobody:***@127.0.0.1:1/none  # environment"
    assert shown in outcome.out.splitlines()
    effective = shell.set(shells.NOWHERE)("config", "show", "--json").rows
    assert effective["GOALWORKER_KAFKA__BOOTSTRAP_SERVERS"] == {"value": "127.0.0.1:1", "from": "environment"}
    assert "secret" not in str(effective) + outcome.out


def test_config_show_says_where_each_value_comes_from(shell: Shell) -> None:
    (shell.folder / ".env").write_text("GOALWORKER_BATCH__MAX_RECORDS=100\nGOALWORKER_OPS__PORT=1\n")
    settings = shell("config", "show", "--json", GOALWORKER_OPS__PORT="2").rows
    assert settings["GOALWORKER_BATCH__MAX_RECORDS"] == {"value": "100", "from": ".env"}
    assert settings["GOALWORKER_OPS__PORT"] == {"value": "2", "from": "environment"}
    assert settings["GOALWORKER_GOALS__MAX_PER_WORKFLOW"] == {"value": "3", "from": "default"}


def test_config_docs_is_a_markdown_table_of_every_setting(shell: Shell) -> None:
    lines = shell("config", "docs").out.splitlines()
    assert lines[:2] == ["| setting | default | meaning |", "|---|---|---|"]
    assert [line.split("`")[1] for line in lines[2:]] == [row.name for row in config.table()]


def test_an_unknown_variable_is_a_warning_in_the_log(shell: Shell) -> None:
    outcome = shell("config", "show", GOALWORKER_SERVICE_HOST="10.0.0.1")
    assert outcome.code == 0
    assert "setting_ignored" in outcome.err
    assert "GOALWORKER_SERVICE_HOST" in outcome.err


# --- db ---


@pytest.fixture
def new_database(postgres_url: str) -> Iterator[str]:
    """Shell with a database that was never migrated."""
    with support.fresh_database(postgres_url) as name:
        yield support.with_database(postgres_url, name)


def test_an_outdated_schema_ends_with_5_until_it_is_upgraded(shell: Shell, new_database: str) -> None:
    shell = shell.set({"GOALWORKER_DATABASE__URL": new_database})
    assert shell("db", "current").out == "nothing: it was never migrated\n"
    shells.assert_one_sentence(shell("db", "check"), 5, "`goalworker db upgrade`")
    shells.assert_one_sentence(shell("outbox", "status"), 5, "`goalworker db upgrade`")
    assert shell("db", "upgrade") == (0, f"the database's schema is at {migrations.head()}\n", "")
    assert shell("db", "current") == (0, f"{migrations.head()}\n", "")
    assert shell("db", "check").code == 0


async def test_an_upgrade_that_cannot_lock_a_table_can_be_repeated(shell: Shell, database_url: str) -> None:
    await asyncio.to_thread(migrations.downgrade, database_url, "0001")
    vacuum = await asyncpg.connect(database_url)
    try:
        async with vacuum.transaction():
            await vacuum.execute("LOCK TABLE enrollments IN SHARE UPDATE EXCLUSIVE MODE")
            refused = await asyncio.to_thread(shell, "db", "upgrade", GOALWORKER_DATABASE__URL=database_url)
        shells.assert_one_sentence(refused, 4, "such as a VACUUM")
        upgraded = await asyncio.to_thread(shell, "db", "upgrade", GOALWORKER_DATABASE__URL=database_url)
        assert upgraded.code == 0
    finally:
        await vacuum.close()


def test_a_newer_schema_is_not_changed(shell: Shell, database_url: str) -> None:
    support.run(support.execute(database_url, "UPDATE alembic_version SET version_num = '9999'"))
    code, out, err = shell("db", "upgrade", GOALWORKER_DATABASE__URL=database_url)
    assert (code, err) == (0, "")
    assert out == (
        "the database's schema is at 9999, which is newer than this build: that is fine, nothing was changed\n"
    )


def test_db_roles_prints_sql_for_one_login_or_several(shell: Shell) -> None:
    outcome = shell.set(shells.NOWHERE)("db", "roles", "--worker-user", 'some"body')
    assert f"CREATE ROLE {tables.WORKER_ROLE} NOLOGIN;" in outcome.out
    assert f'GRANT {tables.WORKER_ROLE} TO "some""body";' in outcome.out
    assert f'GRANT {tables.API_ROLE} TO "nobody";' in outcome.out
    shells.assert_one_sentence(shell("db", "roles"), 3, "GOALWORKER_DATABASE__URL")


# --- outbox ---


async def test_outbox_status_counts_by_topic_and_shows_the_age(
    with_database: Shell, administrator: connections.Connection
) -> None:
    assert with_database("outbox", "status") == (0, "nothing is pending\n", "")
    await administrator.execute(
        "INSERT INTO outbox (topic, key, value, created_at) SELECT topic, '', '', clock_timestamp() - age "
        "FROM (VALUES ('workflow_exit', interval '1 h'), ('workflow_exit', '0'), ('goal_achieved', '0')) v (topic, age)"
    )
    status = with_database("outbox", "status", "--json").rows
    assert status["pending"] == 3
    assert {row["topic"]: row["pending"] for row in status["topics"]} == {"goal-achieved": 1, "workflow-exit": 2}
    assert 3_600 <= status["oldest_age_seconds"] < 3_700
    table = with_database("outbox", "status").out.splitlines()
    assert table[0].split() == ["TOPIC", "PENDING", "OLDEST", "AGE", "SECONDS"]
    assert table[2].split()[:2] == ["workflow-exit", "2"]


async def test_outbox_status_shows_refused_messages_with_size_limit_and_remedy(
    with_database: Shell, administrator: connections.Connection
) -> None:
    await administrator.execute(
        "INSERT INTO refused_messages (id, topic, key, value, created_at, reason, size_bytes, limit_bytes)"
        " SELECT n, 'goal_achieved', '', '', clock_timestamp(), 'larger than max.message.bytes', 3000 * n, 2000"
        " FROM generate_series(1, 2) n"
    )
    (refused,) = with_database("outbox", "status", "--json").rows["refused"]
    assert (refused["topic"], refused["records"], refused["limit_bytes"]) == ("goal-achieved", 2, 2_000)
    told = with_database("outbox", "status").out.splitlines()[-1]
    assert (
        "goal-achieved refuses 2 messages of 3000 to 6000 bytes: larger than max.message.bytes, which is 2000" in told
    )
    assert "set max.message.bytes of goal-achieved to at least 6000" in told


# --- check-event ---

GOOD = json.dumps(
    {
        "specversion": "1.0",
        "id": "e1",
        "source": "/crm",
        "type": "form.submitted",
        "tenantid": "acme",
        "data": {"contact_id": "ann", "form_id": "f1"},
    }
).encode()


def test_a_valid_message_is_shown_without_a_database(shell: Shell) -> None:
    (shell.folder / "event.json").write_bytes(GOOD)
    outcome = shell("check-event", "--topic", "form-submitted", "event.json")
    assert (outcome.code, outcome.err) == (0, "")
    assert {"tenant_id: acme", "id: e1", "form_id: f1"} <= set(outcome.out.splitlines())
    assert "hits were not looked up" in outcome.out


def test_the_fault_of_a_message_is_named_by_pointer(shell: Shell) -> None:
    value = GOOD.replace(b'"f1"', b"17.5")
    outcome = shell("check-event", "--topic", "form-submitted", "-", stdin=value)
    assert outcome.code == 1
    assert outcome.out.startswith("invalid_data at /data/form_id: ")
    found = json.loads(shell("check-event", "--topic", "form-submitted", "-", "--json", stdin=value).out)
    assert (found["outcome"], found["error"]["pointer"]) == ("dead_letter", "/data/form_id")


def test_every_fault_of_a_message_is_named_at_once(shell: Shell) -> None:
    value = GOOD.replace(b'"f1"', b"17.5").replace(b'"ann"', b"null").replace(b'"1.0"', b'"2"')
    value = value.replace(b'"id"', b'"time": "noon", "id"').replace(b'"form.submitted"', b'"form.sent"')
    refused = {"GOALWORKER_EVENTS__FOREIGN_TYPES": "dead_letter"}
    lines = shell("check-event", "--topic", "form-submitted", "-", stdin=value, **refused).out.splitlines()
    where = [line.split(":")[0] for line in lines]
    assert where == [
        "invalid_envelope at /specversion",
        "invalid_envelope at /time",
        "unexpected_type at /type",
        "invalid_data at /data/contact_id",
        "invalid_data at /data/form_id",
    ]


SKIPPED: dict[str, tuple[str, bytes]] = {
    "test": ("form-submitted", GOOD.replace(b'"f1"', b'"f1", "test": true')),
    "foreign_type": ("form-submitted", GOOD.replace(b'"form.submitted"', b'"order.placed"')),
    "no_move": (
        "stage-changed",
        GOOD.replace(b'"form.submitted"', b'"pipeline.stage.changed"').replace(
            b'"form_id": "f1"', b'"pipeline_id": "p", "stage_id": 2, "previous_stage_id": "2"'
        ),
    ),
}


@pytest.mark.parametrize(
    ("outcome", "meaning"),
    [
        ("test", "With GOALWORKER_EVENTS__TEST_EVENTS=count it counts"),
        ("foreign_type", "its type is not one of form-submitted. With GOALWORKER_EVENTS__FOREIGN_TYPES=dead_letter"),
        ("no_move", "an edit within a stage achieves nothing"),
    ],
)
def test_a_message_that_is_skipped_is_shown_with_the_reason(shell: Shell, outcome: str, meaning: str) -> None:
    topic, value = SKIPPED[outcome]
    shown = shell("check-event", "--topic", topic, "-", stdin=value)
    assert (shown.code, shown.err) == (0, "")
    assert f"skipped, and counted as {outcome}: " in shown.out
    assert meaning in shown.out
    found = json.loads(shell("check-event", "--topic", topic, "-", "--json", stdin=value).out)
    assert (found["outcome"], meaning in found["meaning"]) == (outcome, True)


REVERSALS = {
    "payment.refunded": ("payment-completed", b'"payment_id": 17', "payment 17 once its refunds add up to its amount"),
    "payment.failed": ("payment-completed", b'"payment_id": "17"', "payment 17"),
    "appointment.cancelled": ("appointment-booked", b'"appointment_id": "a"', "appointment a, unless another"),
    "form.rejected": ("form-submitted", b'"submission_id": "s"', "submission s"),
}


@pytest.mark.parametrize("type_", REVERSALS)
def test_a_reversal_is_shown_with_what_it_undoes(shell: Shell, type_: str) -> None:
    topic, subject, undone = REVERSALS[type_]
    value = GOOD.replace(b"form.submitted", type_.encode()).replace(b'"form_id": "f1"', subject)
    shown = shell("check-event", "--topic", topic, "-", stdin=value)
    assert (shown.code, shown.err) == (0, "")
    assert f"it is recorded as a reversal. Up to its time, it undoes {undone}" in shown.out
    assert "hits" not in shown.out
    found = json.loads(shell("check-event", "--topic", topic, "-", "--json", stdin=value).out)
    assert (found["outcome"], undone in found["meaning"]) == ("event", True)


def test_both_faults_of_half_a_refund_are_named(shell: Shell) -> None:
    value = GOOD.replace(b"form.submitted", b"payment.refunded")
    value = value.replace(b'"form_id": "f1"', b'"payment_id": "p", "amount": "49,90"')
    lines = shell("check-event", "--topic", "payment-completed", "-", stdin=value).out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["invalid_data at /data/currency", "invalid_data at /data/amount"]


def _dated(seconds_ahead: int) -> bytes:
    time = datetime.now(UTC) + timedelta(seconds=seconds_ahead)
    return GOOD.replace(b'"id"', b'"time": "%s", "id"' % time.isoformat().encode())


@pytest.mark.parametrize("ahead_seconds", [3600, -3600])
def test_the_clock_of_the_database_decides_what_is_future(
    with_database: Shell, database_url: str, ahead_seconds: int
) -> None:
    support.run(support.set_clock_ahead(database_url, ahead_seconds))
    words = ("check-event", "--topic", "form-submitted", "-")
    assert with_database(*words, stdin=_dated(ahead_seconds + 240)).code == 0
    assert with_database(*words, stdin=GOOD).code == 0  # without a time of its own
    refused = with_database(*words, stdin=_dated(ahead_seconds + 420))
    assert (refused.code, refused.out) == (
        1,
        "future_time at /time: `time` is more than 300 s ahead of the database's clock\n",
    )


def test_without_a_database_the_clock_in_use_is_named(shell: Shell) -> None:
    refused = shell("check-event", "--topic", "form-submitted", "-", stdin=_dated(420))
    assert refused.out == "future_time at /time: `time` is more than 300 s ahead of this machine's clock\n"


def test_headers_make_a_message_binary(shell: Shell) -> None:
    attributes = {"specversion": "1.0", "id": "e2", "source": "/crm", "type": "form.submitted"}
    words = [word for name, value in attributes.items() for word in ("--header", f"ce_{name}={value}")]
    value = b'{"contact_id": "ann", "form_id": "f1"}'
    outcome = shell("check-event", "--topic", "form-submitted", "-", *words, stdin=value)
    assert outcome.out.startswith("invalid_envelope at header ce_tenantid: ")
    words += ["--header", "ce_tenantid=acme"]
    found = shell("check-event", "--topic", "form-submitted", "-", "--json", *words, stdin=value).rows
    assert (found["event"]["id"], found["hits"]) == ("e2", None)


PLAIN = b'{"contact_id": "ann", "form_id": "f1"}'


def test_a_message_without_an_envelope_is_refused_with_the_setting_to_accept_it(shell: Shell) -> None:
    words = ("check-event", "--topic", "form-submitted", "-")
    refused = shell(*words, stdin=PLAIN)
    assert refused.code == 1
    assert refused.out.startswith("invalid_envelope at /specversion: ")
    assert "GOALWORKER_EVENTS__PLAIN_JSON=true" in refused.out.splitlines()[0]
    taken = shell(
        *words,
        "--json",
        "--key",
        "acme:ann",
        "--header",
        "Id=e-7",
        stdin=PLAIN,
        GOALWORKER_EVENTS__PLAIN_JSON="true",
        GOALWORKER_EVENTS__TENANT_FROM="key-prefix",
    ).rows["event"]
    assert [taken[name] for name in ("tenant_id", "source", "id")] == ["acme", "kafka:form-submitted", "e-7"]


def test_the_wrapper_of_connect_is_named_in_the_refusal_with_the_remedy(shell: Shell) -> None:
    value = b'{"schema": {"type": "struct"}, "payload": ' + PLAIN + b"}"
    refused = shell("check-event", "--topic", "form-submitted", "-", stdin=value)
    assert refused.code == 1
    assert "Kafka Connect" in refused.out
    assert "value.converter.schemas.enable=false" in refused.out


def test_an_unknown_topic_is_refused_with_the_known_ones(shell: Shell) -> None:
    outcome = shell("check-event", "--topic", "forms", "-", stdin=GOOD)
    assert outcome.code == 2
    assert "form-submitted" in outcome.err


async def test_the_goals_that_a_message_hits_are_listed_with_the_enrollment(
    with_database: Shell, pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    drafts = [
        goal_store.parse_draft({"goal_type": "form_submitted", "criteria": {"form_id": form}}) for form in ("f1", "f2")
    ]
    goals = [await goal_store.create(pool, "acme", "w1", draft, actor="test", maximum=3) for draft in drafts]
    found = with_database("check-event", "--topic", "form-submitted", "-", "--json", stdin=GOOD).rows
    hit = {"workflow_id": "w1", "goal_id": str(goals[0].id), "version": 1, "contact_id": "ann"}
    assert found["hits"] == [{"enrollment": "not_enrolled", **hit}]
    said = "\nnothing is achieved: ann was not enrolled in these workflows at that time\n"
    assert with_database("check-event", "--topic", "form-submitted", "-", stdin=GOOD).out.endswith(said)
    await administrator.execute(
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at) "
        "VALUES ('acme', 'run-1', 'w1', 'ann', now())"
    )
    enrolled = with_database("check-event", "--topic", "form-submitted", "-", stdin=GOOD)
    assert "nothing is achieved" not in enrolled.out
    assert "enrolled" in enrolled.out
    await administrator.execute("UPDATE enrollments SET started_by_source = $1, started_by_id = $2", "/crm", "e1")
    founding = with_database("check-event", "--topic", "form-submitted", "-", stdin=GOOD)
    assert founding.out.endswith("\nnothing is achieved: the event is the one that started the enrollment\n")
    missed = with_database("check-event", "--topic", "form-submitted", "-", stdin=GOOD.replace(b'"acme"', b'"other"'))
    assert missed.out.endswith("\nit hits no goal\n")
