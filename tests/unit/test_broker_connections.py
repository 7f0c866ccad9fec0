"""Errors of connections, which aiokafka only logs, explain why a broker cannot be reached."""

import asyncio
import socket

import pytest
from aiokafka import client
from aiokafka import errors as kafka_errors

from goalworker import config
from goalworker.embedded import machine
from goalworker.kafka import broker_connections, broker_errors

BOOTSTRAP, ADVERTISED = ("kafka", 9092), ("broker-1", 9092)
SETTINGS = config.load({"GOALWORKER_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092"}, env_file=None, secrets_dir=None)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> broker_connections.ConnectionLog:
    """An empty log, which every connection from now on is noted in."""
    broker_connections.install()
    fresh = broker_connections.ConnectionLog()
    monkeypatch.setattr(broker_connections, "CONNECTION_LOG", fresh)
    return fresh


def test_the_client_library_connects_through_us(connections: broker_connections.ConnectionLog) -> None:
    async def bootstrap() -> None:
        port = machine.free_port()
        asked = client.AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}")
        with pytest.raises(kafka_errors.KafkaConnectionError):
            await asked.bootstrap()
        await asked.close()
        failure = connections.last_failure
        assert failure is not None
        assert failure.address == ("127.0.0.1", port)
        assert isinstance(failure.error, ConnectionRefusedError)

    asyncio.run(bootstrap())


def test_an_attempt_that_is_given_up_counts_as_no_answer(connections: broker_connections.ConnectionLog) -> None:
    async def bootstrap() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            asked = client.AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await asked.bootstrap()
            await asked.close()
        assert isinstance(connections.last_failure and connections.last_failure.error, TimeoutError)

    asyncio.run(bootstrap())


def test_an_address_that_answers_again_has_no_failure(connections: broker_connections.ConnectionLog) -> None:
    connections.note(*BOOTSTRAP, OSError("away"))
    connections.note(*BOOTSTRAP, None)
    assert connections.last_failure is None


def test_a_vague_error_is_explained_by_the_last_attempt(connections: broker_connections.ConnectionLog) -> None:
    connections.note(*BOOTSTRAP, kafka_errors.SaslAuthenticationFailed("wrong password"))
    said = str(broker_errors.explain(SETTINGS, kafka_errors.KafkaConnectionError("Unable to bootstrap")))
    assert "wrong password" in said
    assert "GOALWORKER_KAFKA__SASL_PASSWORD" in said
    assert broker_errors.is_login_refused(kafka_errors.KafkaConnectionError("Unable to bootstrap"))


def test_a_login_that_is_refused_is_not_called_an_absence(connections: broker_connections.ConnectionLog) -> None:
    connections.note(*BOOTSTRAP, kafka_errors.SaslAuthenticationFailed("wrong password"))
    said = broker_errors.summarize(SETTINGS, kafka_errors.KafkaConnectionError("Unable to bootstrap"))
    assert said.startswith("Kafka at kafka:9092 answers, but cannot be used: ")
    assert said.endswith("wrong password")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), "the connection was refused"),
        (socket.gaierror(-2, "Name or service not known"), "its name cannot be resolved"),
        (TimeoutError(), "no answer in time"),
    ],
)
def test_a_broker_named_by_a_bootstrap_server_that_answers_is_said(
    error: Exception, reason: str, connections: broker_connections.ConnectionLog
) -> None:
    connections.note(*BOOTSTRAP, None)
    connections.note(*ADVERTISED, error)
    vague = kafka_errors.NodeNotReadyError("Attempt to send a request to node which is not ready (node id 1).")
    explained = broker_errors.explain(SETTINGS, vague)
    assert explained.exit_code == 4
    assert "Kafka at kafka:9092 answers, and names broker-1:9092 as the broker to talk to" in str(explained)
    assert f"{reason}. " in str(explained)
    assert "advertised.listeners" in str(explained)
    assert broker_errors.summarize(SETTINGS, vague).endswith("that it names, broker-1:9092, cannot be reached")


def test_where_the_bootstrap_server_is_away_too_nothing_is_said_of_what_it_names(
    connections: broker_connections.ConnectionLog,
) -> None:
    connections.note(*ADVERTISED, ConnectionRefusedError())
    connections.note(*BOOTSTRAP, ConnectionRefusedError())
    vague = kafka_errors.KafkaConnectionError("Unable to bootstrap")
    assert "advertised" not in str(broker_errors.explain(SETTINGS, vague))
    assert broker_errors.summarize(SETTINGS, vague) == (
        "Kafka at kafka:9092 cannot be reached: the connection was refused"
    )


def test_a_session_timeout_that_is_refused_is_an_error_of_the_setting() -> None:
    explained = broker_errors.explain(SETTINGS, kafka_errors.InvalidSessionTimeoutError())
    assert explained.exit_code == 3
    assert "GOALWORKER_KAFKA__SESSION_TIMEOUT_SECONDS" in str(explained)
