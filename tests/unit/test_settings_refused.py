"""Settings that are refused: each sentence says what, where, why, and what would be right."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from goalworker import config, errors

SASL = {"KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "KAFKA__SASL_USERNAME": "worker", "KAFKA__SASL_PASSWORD": "hunter2"}


def load(
    env: Mapping[str, str] | None = None, env_file: Path | None = None, secrets_dir: Path | None = None
) -> config.Settings:
    """Load settings from these variables only, named without their prefix."""
    prefixed = {f"GOALWORKER_{name}": value for name, value in (env or {}).items()}
    return config.load(prefixed, env_file=env_file, secrets_dir=secrets_dir)


def refusal(env: Mapping[str, str], **places: Path) -> str:
    with pytest.raises(errors.SettingsError) as raised:
        load(env, **places)
    assert raised.value.exit_code == 3
    return str(raised.value)


def test_a_secret_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "GOALWORKER_API__JWT_SECRET"
    path.write_bytes(b"\xff\xfe")
    assert refusal({}, secrets_dir=tmp_path) == f"{path} cannot be read: it is not UTF-8"


def test_an_env_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"GOALWORKER_API__PORT=\xff\n")
    assert refusal({}, env_file=path).startswith(f"{path} cannot be read as UTF-8 lines of NAME=value: ")


@pytest.mark.parametrize(
    ("name", "value", "reason", "example"),
    [
        ("BATCH__MAX_RECORDS", "many", "it should be a valid integer, unable to parse string as an integer", "2000"),
        ("BATCH__MAX_RECORDS", "0", "it should be greater than or equal to 1", "2000"),
        ("API__PORT", "65536", "it should be less than or equal to 65535", "8080"),
        ("DEAD_LETTERS__MAX_RATIO", "1.5", "it should be less than or equal to 1", "0.5"),
        ("DEAD_LETTERS__MAX_RATIO", "nan", "it should be a finite number", "0.5"),
        ("ENROLLMENTS__TRACKING", "maybe", "it should be a valid boolean, unable to interpret input", "true"),
        ("LOG__LEVEL", "loud", "it should be 'debug', 'info', 'warning' or 'error'", "info"),
        ("LOG__FORMAT", "xml", "it should be 'json' or 'console'", "json"),
        (
            "KAFKA__SECURITY_PROTOCOL",
            "TLS",
            "it should be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'",
            "PLAINTEXT",
        ),
        (
            "KAFKA__SASL_MECHANISM",
            "GSSAPI",
            "it should be 'PLAIN', 'SCRAM-SHA-256' or 'SCRAM-SHA-512'",
            "SCRAM-SHA-512",
        ),
        (
            "KAFKA__BOOTSTRAP_SERVERS",
            "kafka",
            "it should be host:port, several of them separated by commas",
            "127.0.0.1:9092",
        ),
        (
            "TOPICS__TAG_ADDED",
            "tag added",
            "a topic's name should be 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-'",
            "tag-added",
        ),
        *(
            (
                "API__ROOT_PATH",
                value,
                "it should begin with / and not end with one, and consist of letters, digits, '.', '_', '~' and '-'",
                "/goalworker",
            )
            for value in ("goals", "/goals/", "/", "//goals", "/..", "/a b", "/%2e", "https://crm.example.com/goals")
        ),
        *(
            (
                "API__ROOT_PATH",
                value,
                "it should not begin with /api, /console or /docs, as addresses of ours do",
                "/goalworker",
            )
            for value in ("/api", "/console", "/docs/goals")
        ),
        (
            "EVENTS__TENANT_FROM",
            "header",
            "it should be tenantid, subject, header:NAME or key-prefix",
            "tenantid",
        ),
        (
            "EVENTS__PLAIN_ID",
            "event id",
            "a header's name should be 1 to 255 ASCII characters without blanks",
            "id",
        ),
        ("KAFKA__GROUP_ID", "g" * 256, "it must be text of 1 to 255 bytes without control characters", "goalworker"),
        (
            "EVENTS__DEFAULT_TENANT",
            "a\tb",
            "it must be text of 1 to 255 bytes without control characters",
            "acme",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_reason_and_a_right_one(
    name: str, value: str, reason: str, example: str
) -> None:
    name_in_full = f"GOALWORKER_{name}"
    sentence = f"{name_in_full}={value!r} in the environment: {reason}; for example {name_in_full}={example}"
    assert refusal({name: value}) == sentence


@pytest.mark.parametrize("value", ["7", "7 days", "P", "PT", "P7", "-P7D", "PT1.5S", "p7d", "P\u0667D"])
def test_a_duration_that_is_not_iso_8601_is_refused(value: str) -> None:
    assert "; for example GOALWORKER_EVENTS__LATENESS=P7D" in refusal({"EVENTS__LATENESS": value})


@pytest.mark.parametrize("value", ["PT0S", "P40000D"])
def test_a_duration_out_of_bounds_is_refused(value: str) -> None:
    assert "it should be between P0D and P36500D" in refusal({"HISTORY__RETENTION": "P36501D"})
    assert "it should be between PT1S and P36500D; for example GOALWORKER_RETENTION__ENROLLMENTS=P730D" in refusal(
        {"RETENTION__ENROLLMENTS": value}
    )


@pytest.mark.parametrize("value", ["t" * 250, ".", "..", "tags/added", "größe"])
def test_a_name_that_kafka_would_refuse_is_refused(value: str) -> None:
    assert "GOALWORKER_TOPICS__REDRIVE" in refusal({"TOPICS__REDRIVE": value})


def test_a_wrong_value_is_looked_for_where_it_stands(tmp_path: Path) -> None:
    env_file, secrets = tmp_path / ".env", tmp_path / "secrets"
    secrets.mkdir()
    env_file.write_text("GOALWORKER_API__PORT=x\n")
    (secrets / "GOALWORKER_OPS__PORT").write_text("y")
    message = refusal({}, env_file=env_file, secrets_dir=secrets)
    assert f"GOALWORKER_API__PORT='x' in {env_file}: " in message
    assert f"GOALWORKER_OPS__PORT='y' in {secrets}: " in message


def test_everything_that_is_wrong_is_said_at_once() -> None:
    lines = refusal({"BATCH__MAX_RECORDS": "x", "API__PORTS": "1", **SASL, "KAFKA__SASL_USERNAME": ""}).splitlines()
    assert lines[0] == "3 settings are wrong:"
    assert [line.split()[0].partition("=")[0] for line in lines[1:]] == [
        "GOALWORKER_API__PORTS",
        "GOALWORKER_KAFKA__SASL_USERNAME",
        "GOALWORKER_BATCH__MAX_RECORDS",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE__URL", "mysql://worker:hunter2@db/goals"),
        ("DATABASE__URL", "postgresql://worker:hunter2/x@db/goals"),
        ("DATABASE__URL", "postgresql://worker:hunter2#@db/goals"),
        ("DATABASE__URL", "postgresql://worker:12?hunter2@db/goals"),
        ("DATABASE__URL", "postgresql://worker:12/hunter2@db/goals"),
        ("DATABASE__URL", "postgresql://worker:[hunter2@db/goals"),
        ("REFERENCES__URL", "http://worker:hunter2@crm/{kind}"),
        ("REFERENCES__URL", "http://worker:hunter2@crm/{kind}/{id}/{contact}"),
        ("REFERENCES__URL", "ftp://worker:hunter2@crm/{kind}/{id}"),
        ("API__JWKS_URL", "https:///keys?token=hunter2"),
    ],
)
def test_a_wrong_url_is_refused_without_telling_the_password(name: str, value: str) -> None:
    message = refusal({name: value})
    assert f"GOALWORKER_{name} in the environment: it " in message
    assert f"; for example GOALWORKER_{name}=" in message
    assert "hunter2" not in message


def test_an_unknown_name_is_an_error_that_suggests_the_right_one(tmp_path: Path) -> None:
    sentence = "GOALWORKER_BATCH__MAX_RECORD in {} is not a setting; did you mean GOALWORKER_BATCH__MAX_RECORDS?"
    assert refusal({"BATCH__MAX_RECORD": "1"}) == sentence.format("the environment")
    (tmp_path / ".env").write_text("GOALWORKER_BATCH__MAX_RECORD=1\n")
    assert refusal({}, env_file=tmp_path / ".env") == sentence.format(tmp_path / ".env")


def test_an_unknown_name_like_no_other_is_sent_to_the_list() -> None:
    assert refusal({"ZZZ__QQQ": "1"}) == (
        "GOALWORKER_ZZZ__QQQ in the environment is not a setting; `goalworker config docs` lists all settings"
    )


def test_an_unknown_name_without_levels_is_only_noted_since_kubernetes_injects_such() -> None:
    loaded = load({"API_SERVICE_HOST": "10.0.0.1", "API": "{}", "TEST_DATABASE_URL": "postgresql://"})
    assert loaded.ignored_names == ("GOALWORKER_API_SERVICE_HOST", "GOALWORKER_API")
    assert config.masked(loaded) == config.masked(load())


@pytest.mark.parametrize("missing", ["KAFKA__SASL_USERNAME", "KAFKA__SASL_PASSWORD"])
def test_sasl_needs_a_user_and_a_password(missing: str) -> None:
    message = refusal({**SASL, missing: ""})
    expected = (
        f"GOALWORKER_{missing} is not set, and GOALWORKER_KAFKA__SECURITY_PROTOCOL=SASL_SSL needs it; for example"
    )
    assert message.startswith(expected)


@pytest.mark.parametrize("field", ["SASL_MECHANISM", "SASL_USERNAME", "SASL_PASSWORD"])
def test_credentials_that_would_not_be_used_are_refused(field: str) -> None:
    assert refusal({f"KAFKA__{field}": "PLAIN", "KAFKA__SECURITY_PROTOCOL": "SSL"}) == (
        f"GOALWORKER_KAFKA__{field} is set, but GOALWORKER_KAFKA__SECURITY_PROTOCOL=SSL logs in nowhere;"
        " for example GOALWORKER_KAFKA__SECURITY_PROTOCOL=SASL_SSL"
    )


def test_certificates_that_would_not_be_used_are_refused() -> None:
    assert refusal({"KAFKA__SSL_CAFILE": "ca.pem"}) == (
        "GOALWORKER_KAFKA__SSL_CAFILE is set, but GOALWORKER_KAFKA__SECURITY_PROTOCOL=PLAINTEXT encrypts nothing;"
        " for example GOALWORKER_KAFKA__SECURITY_PROTOCOL=SSL"
    )


@pytest.mark.parametrize(("given", "missing"), [("SSL_CERTFILE", "SSL_KEYFILE"), ("SSL_KEYFILE", "SSL_CERTFILE")])
def test_a_certificate_and_its_key_come_together(given: str, missing: str) -> None:
    message = refusal({"KAFKA__SECURITY_PROTOCOL": "SSL", f"KAFKA__{given}": "client.pem"})
    assert message.startswith(f"GOALWORKER_KAFKA__{given} is set without GOALWORKER_KAFKA__{missing}; for example ")


def test_two_topics_of_one_name_are_refused() -> None:
    assert refusal({"TOPICS__REDRIVE": "goalworker.dlq"}) == (
        "GOALWORKER_TOPICS__DEAD_LETTERS and GOALWORKER_TOPICS__REDRIVE are the same topic, goalworker.dlq;"
        " for example GOALWORKER_TOPICS__REDRIVE=goalworker.dlq-2"
    )


def test_tokens_are_signed_with_a_secret_or_with_published_keys() -> None:
    claims = {"API__JWT_ISSUER": "login", "API__JWT_AUDIENCE": "goalworker"}
    both = {"API__JWT_SECRET": "hunter2", "API__JWKS_URL": "https://login/keys"}
    message = refusal({**claims, **both})
    assert message.startswith("GOALWORKER_API__JWT_SECRET and GOALWORKER_API__JWKS_URL are both set; unset ")
    assert "hunter2" not in message
    for name, value in both.items():
        assert load({**claims, name: value}).api.jwt_issuer == "login"


@pytest.mark.parametrize("missing", ["API__JWT_ISSUER", "API__JWT_AUDIENCE"])
def test_tokens_need_an_issuer_and_an_audience(missing: str) -> None:
    env = {"API__JWT_SECRET": "hunter2", "API__JWT_ISSUER": "login", "API__JWT_AUDIENCE": "goalworker"}
    message = refusal({**env, missing: ""})
    assert message.startswith(f"GOALWORKER_{missing} is not set, and tokens are checked against it where ")
    assert f"; for example GOALWORKER_{missing}=" in message
