"""The pinned jars are those that this version of Apache Kafka depends on."""

from pathlib import Path

import pytest

from goalworker.embedded import jars
from tests.bench import streams_app
from tests.kit import kafka_jars


@pytest.mark.deploy
def test_the_pinned_jars_are_what_the_pinned_kafka_depends_on(tmp_path: Path) -> None:
    assert list(jars.broker().pinned()) == sorted(kafka_jars.artifacts(tmp_path)), "renew them: make requirements"


@pytest.mark.deploy
def test_the_pinned_jars_of_the_bench_are_what_kafka_streams_adds(tmp_path: Path) -> None:
    pinned = list(streams_app.JARS.pinned())
    assert pinned == sorted(kafka_jars.beyond_the_broker(tmp_path)), "renew them: make requirements"


def test_the_pinned_jars_have_kafka_in_its_version_and_a_logger() -> None:
    assert {kafka_jars.BROKER, kafka_jars.LOGGING} <= jars.broker().pinned().keys()


def test_the_pinned_jars_of_the_bench_have_kafka_streams_in_the_version_of_the_broker() -> None:
    assert {kafka_jars.STREAMS, kafka_jars.COMPILER} <= streams_app.JARS.pinned().keys()
