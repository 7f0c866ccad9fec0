"""No log line and no error contains the content of records or a password (contract section 6)."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from goalworker import embedded
from goalworker.embedded import machine
from goalworker.postgres import tables
from tests.kit import clients, messages_in, secure_broker, support, worker_process
from tests.kit.forker import Forker

pytestmark = pytest.mark.unmeasured

# Part of every secret and content; no output may contain it.
MARK = "LEAK"
DATABASE_PASSWORD = f"{MARK}-of-the-database"
LOGIN = "marked"
BROKER_USER = "operator"
MARKS = (MARK, secure_broker.password(BROKER_USER))

AT = datetime.now(UTC) - timedelta(hours=1)
ENROLLMENT = messages_in.Enrollment("w", "run-1", f"{MARK}-contact")


@pytest.fixture(scope="module")
def database_server() -> Iterator[embedded.Server]:
    with embedded.postgres() as server:
        login = f"CREATE ROLE {LOGIN} LOGIN PASSWORD '{DATABASE_PASSWORD}'"
        support.run(support.execute(server.address, login))
        yield server


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[secure_broker.Broker]:
    with secure_broker.running(tmp_path_factory.mktemp("broker"), BROKER_USER) as installation:
        yield installation


@pytest.fixture(scope="module")
def template(database_server: embedded.Server) -> Iterator[str]:
    with support.migrated_database(database_server.address) as name:
        roles = f"GRANT {tables.WORKER_ROLE}, {tables.API_ROLE} TO {LOGIN}"
        support.run(support.execute(database_server.address, roles))
        yield name


@pytest.fixture
def installation(
    database_server: embedded.Server, template: str, broker: secure_broker.Broker, forker: Forker, tmp_path: Path
) -> Iterator[worker_process.Installation]:
    """Installation on servers that a test may kill; the test itself needs no login."""
    with worker_process.installation(broker.open, database_server.address, template, tmp_path, forker=forker) as made:
        yield made


@pytest.fixture
def marked(installation: worker_process.Installation, broker: secure_broker.Broker) -> worker_process.Installation:
    """The same installation, whose processes log in with passwords and log at debug level."""
    host = installation.database_url.rpartition("@")[2]
    secrets = {name.removeprefix("GOALWORKER_"): value for name, value in broker.settings(BROKER_USER).items()}
    secrets |= {
        "DATABASE__URL": f"postgresql://{LOGIN}:{DATABASE_PASSWORD}@{host}",
        "LOG__LEVEL": "debug",
        "EVENTS__MAX_BYTES": "100000",
    }
    return replace(installation, settings=secrets)


def assert_silent(said: str) -> None:
    lines = [line for line in said.splitlines() if any(mark in line for mark in MARKS)]
    assert lines == []


# --- the worker ---


def good() -> Iterator[messages_in.Record]:
    """Yield valid records that contain the mark wherever possible."""
    yield ENROLLMENT.started(AT)
    contact = {"contact_id": ENROLLMENT.contact_id, f"{MARK}-field": f"{MARK}-value"}
    for number, (kind, data) in enumerate(
        {
            "contact.tag.added": {"tag_id": f"{MARK}-tag", "tag_name": f"{MARK} name"},
            "payment.completed": {"payment_id": f"{MARK}-pay", "amount": "1.00", "currency": "EUR"},
            "appointment.booked": {"appointment_id": f"{MARK}-appointment"},
            "form.submitted": {"form_id": f"{MARK}-form"},
            "pipeline.stage.changed": {"pipeline_id": f"{MARK}-line", "stage_id": f"{MARK}-stage"},
        }.items()
    ):
        record = messages_in.event(kind, contact | data, AT + timedelta(seconds=number), **{f"{MARK.lower()}x": MARK})
        yield replace(record, key=f"acme:{ENROLLMENT.contact_id}".encode()).with_headers((f"x-{MARK}", MARK.encode()))


def malformed() -> Iterator[messages_in.Record]:
    """Yield a record for each reason that a sender can cause."""
    form = {"contact_id": ENROLLMENT.contact_id, "form_id": f"{MARK}-form"}
    for value in (
        f'{{"{MARK}": ',
        f'"{MARK}"',
        f'{{"specversion": "{MARK}", "{MARK}": 1}}',
        f'{{"{MARK}": {"[" * 10_000}',
        f"\x00{MARK}",
        MARK * 50_000,
    ):
        yield messages_in.Record("form_submitted", value.encode(), key=MARK.encode())
    yield messages_in.Record("form_submitted", f'{{"{MARK}": "\xff"}}'.encode("latin-1"))
    yield messages_in.event("form.submitted", form | {"form_id": [MARK]}, AT)
    yield messages_in.event("form.submitted", form | {"form_id": f"{MARK}\0"}, AT)
    yield messages_in.event("form.submitted", form | {"contact_id": MARK * 100}, AT)
    yield messages_in.event("form.submitted", form, AT + timedelta(days=2))
    yield messages_in.event("form.submitted", form, AT, time=MARK)
    yield messages_in.event("payment.completed", {**form, "payment_id": "p", "amount": MARK, "currency": "EUR"}, AT)
    yield replace(ENROLLMENT, contact_id=f"{MARK}-other").started(AT)  # conflicting_enrollment


def foreign() -> messages_in.Record:
    """Return an event of a type that its topic does not list, which is skipped and logged."""
    form = {"contact_id": ENROLLMENT.contact_id, "form_id": f"{MARK}-form"}
    return replace(messages_in.event("payment.completed", form, AT), topic="form_submitted")


async def test_a_worker_logs_neither_record_content_nor_passwords(
    installation: worker_process.Installation,
    marked: worker_process.Installation,
    database_server: embedded.Server,
    broker: secure_broker.Broker,
) -> None:
    worker = marked.start()
    try:
        await worker.ready()
        async with clients.connect(installation) as client:
            await client.create_goal("w", "form_submitted", form_id=f"{MARK}-form")
            await client.process(*good(), foreign())
            bad = list(malformed())
            await client.process(*bad)
            assert len(await client.dead_letters()) == len(bad)
            database_server.kill()
            await client.send(*malformed(), *good())
            await worker.said("retry")
            database_server.start()
            await client.settle()
        broker.server.kill()
        await support.until(lambda: worker.answers("/healthz/ready") == 503)
        broker.server.start()
        await support.until(lambda: worker.answers("/healthz/ready") == 200, timeout_seconds=30)
        worker.stop()
    finally:
        worker.kill()
    assert worker.lines("dead_letters")
    assert_silent(worker.log.read_text())


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("CREATE UNIQUE INDEX one ON enrollments (workflow_id)", "UniqueViolationError: duplicate key"),
        ("ALTER TABLE achievements ADD CHECK (contact_id::int > 0)", "a value was refused (SQLSTATE 22P02)"),
    ],
    ids=["a row that is there", "a value that is refused"],
)
async def test_an_unexpected_database_error_is_logged_without_row_values(
    installation: worker_process.Installation, marked: worker_process.Installation, rule: str, says: str
) -> None:
    support.run(support.execute(installation.database_url, rule))
    worker = marked.start()
    try:
        await worker.ready()
        async with clients.connect(installation) as client:
            goal = await client.create_goal("w", "form_submitted", form_id=f"{MARK}-form")
            submitted = ENROLLMENT.submits(f"{MARK}-form", goal.created_at + timedelta(milliseconds=1))
            await client.send(ENROLLMENT.started(AT), submitted, replace(ENROLLMENT, enrollment_id="run-2").started(AT))
        assert worker.wait() == 1
    finally:
        worker.kill()
    assert says in worker.log.read_text()
    assert_silent(worker.log.read_text())


# --- commands ---


def test_settings_are_shown_without_passwords(marked: worker_process.Installation) -> None:
    shown = marked.call(
        *("config", "show"),
        API__JWT_SECRET=f"{MARK}-jwt",
        API__JWT_ISSUER="issuer",
        API__JWT_AUDIENCE="audience",
        REFERENCES__URL=f"http://ann:{MARK}@crm/{{kind}}/{{id}}?api_key={MARK}",
    )
    assert shown.code == 0
    assert_silent(shown.out + shown.err)
    assert shown.out.count("***") == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"DATABASE__URL": f"postgresql://ann:{MARK}@{MARK}@127.0.0.1/goalworker"},
        {"DATABASE__URL": f"postgresql://ann:{MARK}/{MARK}@127.0.0.1:1/goalworker"},
        {"DATABASE__URL": f"mysql://ann:{MARK}@127.0.0.1/goalworker"},
        {"DATABASE__URL": f"postgresql://ann:{MARK}@127.0.0.1:1/goalworker"},
        {"DATABASE__URL": f"postgresql://127.0.0.1:1/goalworker?user=ann&password={MARK}"},
        {"KAFKA__SECURITY_PROTOCOL": "PLAINTEXT", "KAFKA__SSL_CAFILE": None, "KAFKA__SASL_PASSWORD": MARK},
        {"KAFKA__SASL_PASSWORD": f"{MARK}-wrong"},
        {"KAFKA__SASL_PASSWORD": f"{MARK}-wrong", "KAFKA__SASL_MECHANISM": "SCRAM-SHA-512"},
        {"API__JWT_SECRET": f"{MARK}-jwt"},
        {"REFERENCES__URL": f"http://ann:{MARK}@crm/{{kind}}"},
    ],
    ids=" ".join,
)
def test_doctor_describes_problems_without_passwords(
    marked: worker_process.Installation, wrong: dict[str, object]
) -> None:
    outcome = marked.call("doctor", **wrong)
    assert outcome.code == 1
    assert "problem" in outcome.out
    assert_silent(outcome.out + outcome.err)


def test_a_failing_command_prints_no_row_values(
    installation: worker_process.Installation, marked: worker_process.Installation
) -> None:
    support.run(support.execute(installation.database_url, "CREATE UNIQUE INDEX one ON goals (tenant_id)"))
    words = ("goals", "create", f"{MARK}-workflow", "--tenant", "acme", "--type", "form_submitted", "--name", MARK)
    outcomes = [marked.call(*words, "--criteria", f"form_id={MARK}-{number}") for number in range(2)]
    assert [outcome.code for outcome in outcomes] == [0, 1]
    assert "UniqueViolationError" in outcomes[1].err
    assert_silent(outcomes[1].err)


# --- the API ---


async def test_the_api_logs_neither_request_content_nor_credentials(
    installation: worker_process.Installation, marked: worker_process.Installation, database_server: embedded.Server
) -> None:
    scopes = ("--scope", "goals:read,goals:write", "--name", MARK, "--json")
    key = json.loads(marked.call("keys", "create", "--tenant", "acme", *scopes).out)["key"]
    port = machine.free_port()
    path, goal = (
        f"/workflows/{MARK}/goals",
        {"goal_type": "form_submitted", "criteria": {"form_id": MARK}, "name": MARK},
    )
    api = marked.launch("api", API__PORT=port)
    async with worker_process.stopping(api):
        await api.said("api_ready")
        url = f"http://127.0.0.1:{port}/api/v1"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
            answers = [await client.get(path, headers={"Authorization": f"Bearer {MARK}.{MARK}.{MARK}"})]
            client.headers["X-API-Key"] = key
            answers += [await client.post(path, json=goal) for _ in range(2)]
            answers.append(await client.post(path, content=f'{{"{MARK}": '))
            answers.append(await client.get(f"/workflows/w/achievements?contact_id={MARK}&cursor={MARK}"))
            support.run(support.execute(installation.database_url, "CREATE UNIQUE INDEX one ON goals (tenant_id)"))
            answers.append(await client.post(path, json=goal | {"criteria": {"form_id": f"{MARK}-2"}}))
            database_server.kill()
            answers.append(await client.get(path))
        database_server.start()
    said = api.log.read_text()
    assert [answer.status_code for answer in answers] == [401, 201, 409, 415, 400, 500, 503]
    assert {"request", "request_failed"} <= {json.loads(line)["event"] for line in said.splitlines()}
    assert key not in said
    assert_silent(said)
