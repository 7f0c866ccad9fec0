"""Kafka with TLS and logins: every client connects with the fewest rights, or reports what is wrong."""

import ast
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import aiokafka
import pytest

import goalworker
from tests.kit import certificates, secure_broker, shells, support
from tests.kit.secure_broker import DESCRIBE, DESCRIBE_CONFIGS, GROUP, READ, TOPIC, WRITE, Right
from tests.kit.shells import Shell

OUT = ("goal_achieved", "workflow_exit", "goal_configured", "workflow_lifecycle", "dead_letters")
IN = (
    *("tag_added", "payment_completed", "appointment_booked", "form_submitted", "stage_changed"),
    *("workflow_lifecycle", "redrive"),
)
TOPICS = support.fresh_topics()
GROUP_ID = f"{TOPICS['tag_added']}-group"  # as in shells.variables_of

# All rights that a worker needs. It reads the configuration only to compare the limits of dead letters and messages.
NEEDED: frozenset[Right] = frozenset(
    {
        *((TOPIC, TOPICS[which], READ) for which in IN),
        *((TOPIC, TOPICS[which], WRITE) for which in OUT),
        *((TOPIC, TOPICS[which], DESCRIBE_CONFIGS) for which in (*IN, *OUT)),
        (GROUP, GROUP_ID, READ),
    }
)
# By user: the missing right, and the worker's sentence.
LACKING: Mapping[str, tuple[frozenset[Right], tuple[str, ...]]] = {
    "blind": (frozenset({(TOPIC, TOPICS["redrive"], READ)}), (TOPICS["redrive"], "may not be described")),
    "unread": (frozenset({(TOPIC, TOPICS["tag_added"], READ)}), (TOPICS["tag_added"], "Allow READ on")),
    "alone": (frozenset({(GROUP, GROUP_ID, READ)}), (GROUP_ID, "Allow READ on the group")),
    "mute": (frozenset({(TOPIC, TOPICS["dead_letters"], WRITE)}), (TOPICS["dead_letters"], "WRITE on")),
}

NO_LOGIN: Mapping[str, object] = {"SASL_MECHANISM": None, "SASL_USERNAME": None, "SASL_PASSWORD": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[secure_broker.Broker]:
    with secure_broker.running(folder, "worker", *LACKING) as running:
        support.run(support.create_topics(running.open, TOPICS))
        support.run(running.allow([*(("worker", right) for right in NEEDED), *rights_of_the_lacking()]))
        yield running


def rights_of_the_lacking() -> Iterator[tuple[str, Right]]:
    for user, (lacking, _) in LACKING.items():
        # DESCRIBE is enough to see a topic, so the sentence names the missing right.
        seen = {(kind, name, DESCRIBE) for kind, name, _ in lacking} if user != "blind" else set()
        yield from ((user, right) for right in (NEEDED - lacking) | seen)


@pytest.fixture
def secured(shell: Shell, database_url: str) -> Shell:
    """Shell with a database and topics, but without a login to Kafka."""
    return shell.set(
        {
            **shells.variables_of("", TOPICS),
            "GOALWORKER_DATABASE__URL": database_url,
            "GOALWORKER_OPS__PORT": "0",
            "GOALWORKER_LOG__FORMAT": "json",
        }
    )


async def send_garbage(broker: secure_broker.Broker, topic: str) -> None:
    async with shells.producing(broker.open) as producer:
        await producer.send_and_wait(topic, b"{", partition=0)


async def letters(broker: secure_broker.Broker) -> list[bytes | None]:
    consumer = aiokafka.AIOKafkaConsumer(
        TOPICS["dead_letters"], bootstrap_servers=broker.open, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        return [(await consumer.getone()).value]
    finally:
        await consumer.stop()


async def test_a_worker_needs_no_more_rights_than_these(broker: secure_broker.Broker, secured: Shell) -> None:
    await send_garbage(broker, TOPICS["form_submitted"])
    with secured.started("run", **broker.settings("worker", "SCRAM-SHA-512")) as worker:
        assert await letters(broker) == [b"{"]
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=20)
    assert worker.returncode == 0, err.decode()
    assert "topic_config_hidden" not in err.decode()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_commands_log_in_by(mechanism: str, broker: secure_broker.Broker, secured: Shell) -> None:
    outcome = secured.set(broker.settings("worker", mechanism))("lag", "--json")
    assert {row["topic"] for row in outcome.rows} == {TOPICS[which] for which in IN}


def test_a_certificate_is_a_login(broker: secure_broker.Broker, secured: Shell) -> None:
    client = broker.authority.issue("operator")
    without = {**NO_LOGIN, "BOOTSTRAP_SERVERS": broker.mutual, "SECURITY_PROTOCOL": "SSL"}
    having = {**without, "SSL_CERTFILE": client.certificate, "SSL_KEYFILE": client.key}
    assert secured.set(broker.settings("", otherwise=having))("topics", "list").code == 0
    refused = secured.set(broker.settings("", otherwise=without))("topics", "list")
    shells.assert_one_sentence(refused, 4, broker.mutual)


def faults(broker: secure_broker.Broker, folder: Path) -> dict[str, tuple[Mapping[str, object], str]]:
    """Return changed settings and the expected sentence by fault."""
    return {
        "wrong authority": (
            {"SSL_CAFILE": certificates.Authority(folder, "stranger").file},
            "GOALWORKER_KAFKA__SSL_CAFILE",
        ),
        "wrong host name": ({"BOOTSTRAP_SERVERS": broker.login.replace("127.0.0.1", "localhost")}, "'localhost'"),
        "wrong password": ({"SASL_PASSWORD": "pw-wrong"}, "GOALWORKER_KAFKA__SASL_PASSWORD"),
        "no TLS to a TLS port": (
            {**NO_LOGIN, "SECURITY_PROTOCOL": "PLAINTEXT", "SSL_CAFILE": None},
            "GOALWORKER_KAFKA__SECURITY_PROTOCOL",
        ),
        "TLS to a port without": ({"BOOTSTRAP_SERVERS": broker.open}, "GOALWORKER_KAFKA__SECURITY_PROTOCOL"),
        "no login": ({**NO_LOGIN, "SECURITY_PROTOCOL": "SSL"}, "GOALWORKER_KAFKA__SECURITY_PROTOCOL"),
    }


@pytest.mark.parametrize(
    "fault",
    [
        *("wrong authority", "wrong host name", "wrong password"),
        *("no TLS to a TLS port", "TLS to a port without", "no login"),
    ],
)
def test_connection_errors_are_a_sentence_and_exit_4(
    fault: str, broker: secure_broker.Broker, secured: Shell, folder: Path
) -> None:
    otherwise, says = faults(broker, folder)[fault]
    outcome = secured.set(broker.settings("worker", otherwise=otherwise))("run")
    assert (outcome.code, outcome.out) == (4, ""), outcome.err
    sentence = shells.last_words(outcome)
    assert sentence.startswith("Kafka at ")
    assert says in sentence
    assert "pw-" not in outcome.err


def test_commands_report_the_same_errors_as_the_worker(broker: secure_broker.Broker, secured: Shell) -> None:
    unknown = secured.set(broker.settings("worker", otherwise={"SASL_PASSWORD": "pw-wrong"}))
    shells.assert_one_sentence(unknown("topics", "list"), 4, "GOALWORKER_KAFKA__SASL_PASSWORD")
    refused = unknown("doctor")
    assert refused.code == 1
    assert "problem  broker" in refused.out
    assert "GOALWORKER_KAFKA__SASL_PASSWORD" in refused.out


def test_doctor_reports_missing_read_rights(broker: secure_broker.Broker, secured: Shell) -> None:
    unread = secured.set(broker.settings("unread"))("doctor")
    assert unread.code == 1
    assert f"{TOPICS['tag_added']} may not be read" in unread.out


@pytest.mark.parametrize("user", LACKING)
def test_a_missing_right_is_a_sentence_and_not_an_unreachable_broker(
    user: str, broker: secure_broker.Broker, secured: Shell
) -> None:
    if user == "mute":
        support.run(send_garbage(broker, TOPICS["form_submitted"]))
    outcome = secured.set(broker.settings(user))("run")
    # A topic that may not be described looks like a missing one.
    assert (outcome.code, outcome.out) == (4 if user == "blind" else 1, ""), outcome.err
    sentence = shells.last_words(outcome)
    for part in LACKING[user][1]:
        assert part in sentence


def test_every_client_is_made_with_the_same_options() -> None:
    """Except the demo's own clients, whose broker is always embedded."""
    package = Path(goalworker.__file__).parent
    made = [
        (file.name, node)
        for file in package.rglob("*.py")
        if "demo" not in file.parts
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2].startswith("AIOKafka")
    ]
    assert {file for file, _ in made} == {"clients.py", "kafka_connection.py", "producer.py"}
    for _, call in made:
        spread = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg is None]
        assert [text.partition("(")[0].rpartition(".")[2] for text in spread] == ["client_options"]
