"""Settings: what is there, which place wins, and what a person is told."""

import re
import ssl
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from goalworker import config, errors
from goalworker.domain import events

DEFAULTS = {
    "DATABASE__URL": "",
    "DATABASE__POOL_SIZE": "4",
    "DATABASE__STATEMENT_TIMEOUT_SECONDS": "30",
    "KAFKA__BOOTSTRAP_SERVERS": "",
    "KAFKA__GROUP_ID": "goalworker",
    "KAFKA__CLIENT_ID": "goalworker",
    "KAFKA__SESSION_TIMEOUT_SECONDS": "45",
    "KAFKA__SECURITY_PROTOCOL": "PLAINTEXT",
    "KAFKA__SASL_MECHANISM": "PLAIN where the protocol is SASL_...",
    "KAFKA__SASL_USERNAME": "",
    "KAFKA__SASL_PASSWORD": "",
    "KAFKA__SSL_CAFILE": "the system's",
    "KAFKA__SSL_CERTFILE": "",
    "KAFKA__SSL_KEYFILE": "",
    "TOPICS__TAG_ADDED": "tag-added",
    "TOPICS__PAYMENT_COMPLETED": "payment-completed",
    "TOPICS__APPOINTMENT_BOOKED": "appointment-booked",
    "TOPICS__FORM_SUBMITTED": "form-submitted",
    "TOPICS__STAGE_CHANGED": "stage-changed",
    "TOPICS__WORKFLOW_LIFECYCLE": "workflow-lifecycle",
    "TOPICS__GOAL_ACHIEVED": "goal-achieved",
    "TOPICS__WORKFLOW_EXIT": "workflow-exit",
    "TOPICS__GOAL_CONFIGURED": "goal-configured",
    "TOPICS__DEAD_LETTERS": "goalworker.dlq",
    "TOPICS__REDRIVE": "goalworker.redrive",
    "BATCH__MAX_RECORDS": "2000",
    "BATCH__MAX_WAIT_MS": "20",
    "ENROLLMENTS__TRACKING": "true",
    "GOALS__MAX_PER_WORKFLOW": "3",
    "EVENTS__LATENESS": "P7D",
    "EVENTS__MAX_FUTURE_SECONDS": "300",
    "EVENTS__MAX_BYTES": "1048576",
    "EVENTS__DEFAULT_TENANT": "",
    "EVENTS__TENANT_FROM": "tenantid",
    "EVENTS__PLAIN_JSON": "false",
    "EVENTS__PLAIN_ID": "id",
    "EVENTS__TEST_EVENTS": "ignore",
    "EVENTS__FOREIGN_TYPES": "ignore",
    "DEAD_LETTERS__MAX_RATIO": "0.5",
    "DEAD_LETTERS__WINDOW": "1000",
    "RETENTION__ENROLLMENTS": "P730D",
    "RETENTION__SWEEP_SECONDS": "60",
    "HISTORY__RETENTION": "P30D",
    "HISTORY__KEEP": "enrolled",
    "HISTORY__DELAY_SECONDS": "5",
    "API__HOST": "127.0.0.1",
    "API__PORT": "8080",
    "API__JWT_SECRET": "",
    "API__JWKS_URL": "",
    "API__JWT_ISSUER": "",
    "API__JWT_AUDIENCE": "",
    "API__CONSOLE": "true",
    "API__ROOT_PATH": "",
    "OPS__HOST": "127.0.0.1",
    "OPS__PORT": "9464 (`run`), 9465 (`api`), 9466 (`insight`)",
    "OPS__STALL_SECONDS": "300",
    "REFERENCES__URL": "",
    "REFERENCES__TIMEOUT_SECONDS": "2",
    "CELL__BUCKETS": "0-1023",
    "CELL__TRUST_KEYS": "false",
    "LOG__LEVEL": "info",
    "LOG__FORMAT": "json off a terminal, console on one",
}
SASL = {"KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "KAFKA__SASL_USERNAME": "worker", "KAFKA__SASL_PASSWORD": "hunter2"}


def load(
    env: Mapping[str, str] | None = None, env_file: Path | None = None, secrets_dir: Path | None = None
) -> config.Settings:
    """Load settings from these variables only, named without their prefix."""
    prefixed = {f"GOALWORKER_{name}": value for name, value in (env or {}).items()}
    return config.load(prefixed, env_file=env_file, secrets_dir=secrets_dir)


def test_the_table_has_every_setting_of_the_contract_with_its_default() -> None:
    assert {row.name.removeprefix("GOALWORKER_"): row.default for row in config.table()} == DEFAULTS


def test_every_setting_has_a_description() -> None:
    assert all(row.description for row in config.table())


def test_what_the_table_says_is_what_is_in_force() -> None:
    assert config.masked(load()) == {row.name: row.default for row in config.table()}


def test_values_have_the_types_that_the_code_works_with() -> None:
    loaded = load({"ENROLLMENTS__TRACKING": "false", "EVENTS__LATENESS": "P1DT12H", "DEAD_LETTERS__MAX_RATIO": "0.25"})
    assert load({"EVENTS__DEFAULT_TENANT": "größe"}).events.default_tenant == "größe"
    assert loaded.enrollments.tracking is False
    assert loaded.events.lateness == timedelta(hours=36)
    assert loaded.dead_letters.max_ratio == 0.25
    assert config.masked(loaded)["GOALWORKER_EVENTS__LATENESS"] == "P1DT12H"


def test_events_may_be_kept_for_no_time_at_all() -> None:
    loaded = load({"HISTORY__RETENTION": "P0D", "HISTORY__KEEP": "ALL"})
    assert (loaded.history.retention, loaded.history.keep) == (timedelta(0), "all")
    assert config.masked(loaded)["GOALWORKER_HISTORY__RETENTION"] == "P0D"


def test_settings_cannot_be_changed_after_they_were_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().batch.max_records = 1  # type: ignore[misc]


# --- where they come from ---


def test_the_environment_wins_over_the_env_file_and_that_over_the_secrets(tmp_path: Path) -> None:
    names = ("BATCH__MAX_RECORDS", "BATCH__MAX_WAIT_MS", "GOALS__MAX_PER_WORKFLOW")
    for name in names:
        (tmp_path / f"GOALWORKER_{name}").write_text("7\n")
    env_file = tmp_path / ".env"
    env_file.write_text("".join(f"GOALWORKER_{name}=8\n" for name in names[:2]))
    loaded = load({names[0]: "9"}, env_file, tmp_path)
    assert (loaded.batch.max_records, loaded.batch.max_wait_ms, loaded.goals.max_per_workflow) == (9, 8, 7)


def test_names_may_be_in_lower_case_everywhere(tmp_path: Path) -> None:
    (tmp_path / "goalworker_database__url").write_text("postgresql://a:b@c/d\n")
    (tmp_path / ".env").write_text("goalworker_batch__max_records=8\n")
    loaded = config.load({"goalworker_api__port": "9"}, env_file=tmp_path / ".env", secrets_dir=tmp_path)
    assert loaded.database_url() == "postgresql://a:b@c/d"
    assert (loaded.batch.max_records, loaded.api.port) == (8, 9)


def test_an_empty_value_is_the_same_as_none(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GOALWORKER_BATCH__MAX_RECORDS=8\nGOALWORKER_API__PORT=\n")
    loaded = load({"BATCH__MAX_RECORDS": "", "EVENTS__DEFAULT_TENANT": ""}, tmp_path / ".env")
    assert (loaded.batch.max_records, loaded.api.port, loaded.events.default_tenant) == (8, 8080, None)


def test_the_process_environment_is_what_is_read_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOALWORKER_BATCH__MAX_RECORDS", "11")
    assert config.load(secrets_dir=None).batch.max_records == 11


def test_other_peoples_secrets_are_not_even_opened(tmp_path: Path) -> None:
    (tmp_path / "somebody-elses").write_bytes(b"\xff\xfe")
    (tmp_path / "kubernetes.io").mkdir()
    assert load(secrets_dir=tmp_path) == load()


def test_files_and_directories_that_are_not_there_are_no_error(tmp_path: Path) -> None:
    assert load(env_file=tmp_path / "none", secrets_dir=tmp_path / "none") == load()


# --- what a command needs ---


def test_a_command_is_told_what_it_needs_only_when_it_needs_it() -> None:
    with pytest.raises(errors.SettingsError) as raised:
        load({"KAFKA__BOOTSTRAP_SERVERS": "a:1"}).database_url()
    assert str(raised.value) == (
        "GOALWORKER_DATABASE__URL is not set, and this command needs it; for example"
        " GOALWORKER_DATABASE__URL=postgresql://goalworker:secret@127.0.0.1:5432/goalworker"
    )
    with pytest.raises(errors.SettingsError) as raised:
        load({"DATABASE__URL": "postgresql://a/b"}).bootstrap_servers()
    assert str(raised.value) == (
        "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS is not set, and this command needs it; for example"
        " GOALWORKER_KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:9092"
    )


def test_both_spellings_of_the_database_are_one() -> None:
    assert load({"DATABASE__URL": "postgres://a:b@c/d"}).database_url() == "postgresql://a:b@c/d"
    assert load({"DATABASE__URL": "postgresql:///d?host=/run/db"}).database_url() == "postgresql:///d?host=/run/db"


def test_brokers_may_be_several_and_have_ipv6_addresses() -> None:
    assert load({"KAFKA__BOOTSTRAP_SERVERS": "a:9092, [::1]:9093"}).bootstrap_servers() == "a:9092,[::1]:9093"


def test_each_command_has_its_own_operations_port_until_one_is_set() -> None:
    assert [load().ops.port_of(command) for command in ("run", "api", "insight")] == [9464, 9465, 9466]
    assert [load({"OPS__PORT": "0"}).ops.port_of(command) for command in ("run", "api", "insight")] == [0, 0, 0]


def test_topics_are_known_by_what_they_carry() -> None:
    topics = load({"TOPICS__TAG_ADDED": "crm.tags"}).topics
    assert topics.goal_inputs == {
        "crm.tags": "tag_added",
        "payment-completed": "payment_completed",
        "appointment-booked": "appointment_booked",
        "form-submitted": "form_submitted",
        "stage-changed": "stage_changed",
    }
    assert topics.inputs == {**topics.goal_inputs, "workflow-lifecycle": "workflow_lifecycle"}
    assert topics.event_types["crm.tags"] == {"contact.tag.added"}
    assert topics.event_types["stage-changed"] == {"pipeline.stage.changed"}
    assert topics.event_types["payment-completed"] == {"payment.completed", "payment.refunded", "payment.failed"}
    assert topics.event_types["workflow-lifecycle"] == events.LIFECYCLE_TYPES
    assert topics.event_types.keys() == topics.inputs.keys()
    assert topics.outputs == ("goal-achieved", "workflow-exit", "goal-configured", "workflow-lifecycle")


# --- what is shown ---


def test_no_secret_is_shown_anywhere() -> None:
    loaded = load(
        {
            **SASL,
            "DATABASE__URL": "postgresql://worker:hunter2@db:5432/goals?sslmode=require&password=hunter2",
            "API__JWT_SECRET": "hunter2",
            "API__JWT_ISSUER": "login",
            "API__JWT_AUDIENCE": "goalworker",
            "REFERENCES__URL": "http://crm:hunter2@crm/{kind}/{id}?api_key=hunter2&tenant={tenant}",
        }
    )
    shown = config.masked(loaded)
    assert "hunter2" not in f"{shown}{loaded!r}{loaded}{loaded.database!r}"
    assert shown["GOALWORKER_DATABASE__URL"] == "postgresql://worker:***@db:5432/goals?sslmode=require&password=***"
    assert shown["GOALWORKER_REFERENCES__URL"] == "http://crm:***@crm/{kind}/{id}?api_key=***&tenant={tenant}"
    assert shown["GOALWORKER_KAFKA__SASL_PASSWORD"] == shown["GOALWORKER_API__JWT_SECRET"] == "***"


# --- what the Kafka clients get ---


def test_without_security_the_client_gets_only_where_and_who() -> None:
    assert config.kafka_client_options(load({"KAFKA__BOOTSTRAP_SERVERS": "a:1"})) == {
        "bootstrap_servers": "a:1",
        "client_id": "goalworker",
        "security_protocol": "PLAINTEXT",
        "metadata_max_age_ms": 30_000,
    }


def test_sasl_reaches_the_client_and_host_names_are_checked() -> None:
    options = config.kafka_client_options(load({"KAFKA__BOOTSTRAP_SERVERS": "a:1", **SASL}))
    context = options.pop("ssl_context")
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert options == {
        "bootstrap_servers": "a:1",
        "client_id": "goalworker",
        "security_protocol": "SASL_SSL",
        "metadata_max_age_ms": 30_000,
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "worker",
        "sasl_plain_password": "hunter2",
    }


def test_another_mechanism_than_plain_is_taken_as_set() -> None:
    env = {**SASL, "KAFKA__BOOTSTRAP_SERVERS": "a:1", "KAFKA__SASL_MECHANISM": "scram-sha-512"}
    assert config.kafka_client_options(load(env))["sasl_mechanism"] == "SCRAM-SHA-512"


@pytest.mark.parametrize("content", [None, "not a certificate"])
@pytest.mark.parametrize("field", ["SSL_CAFILE", "SSL_CERTFILE"])
def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path, field: str, content: str | None) -> None:
    path = tmp_path / "some.pem"
    if content:
        path.write_text(content)
    env = {"KAFKA__BOOTSTRAP_SERVERS": "a:1", "KAFKA__SECURITY_PROTOCOL": "SSL", f"KAFKA__{field}": str(path)}
    loaded = load({**env, "KAFKA__SSL_KEYFILE": str(path)} if field == "SSL_CERTFILE" else env)
    with pytest.raises(errors.SettingsError, match=f"^GOALWORKER_KAFKA__{field}={path}.* cannot be used as PEM: "):
        config.kafka_client_options(loaded)


def test_every_setting_that_a_sentence_in_the_code_names_exists() -> None:
    package = Path(config.__file__).parents[1]
    named = {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r"GOALWORKER_[A-Z]+__[A-Z_]+[A-Z]", path.read_text())
    }
    assert {"GOALWORKER_GOALS__MAX_PER_WORKFLOW", "GOALWORKER_EVENTS__MAX_FUTURE_SECONDS"} <= named
    assert named - {row.name for row in config.table()} == set()
