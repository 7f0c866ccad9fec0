"""Clients of Kafka, without a broker."""

import asyncio
from unittest import mock

import aiokafka
import pytest
from aiokafka import errors as kafka_errors

from goalworker import config
from goalworker.errors import DependencyError
from goalworker.inspection import kafka_connection
from goalworker.kafka import fast_fetch


def test_a_fetch_that_a_stopping_client_cancels_does_not_hide_why_a_command_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = mock.AsyncMock()
    client.stop.side_effect = asyncio.CancelledError
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", lambda **_: client)
    monkeypatch.setattr(fast_fetch, "install", mock.Mock())  # it would stay installed for the tests that follow
    settings = config.load({"GOALWORKER_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}, env_file=None, secrets_dir=None)

    async def read() -> None:
        async with kafka_connection.consumer(settings):
            raise kafka_errors.NodeNotReadyError

    with pytest.raises(DependencyError, match=r"127\.0\.0\.1:1"):
        asyncio.run(read())
