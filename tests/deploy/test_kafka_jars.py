"""The pinned jars of the embedded broker are those that this version of Apache Kafka depends on."""

from pathlib import Path

import pytest

from goalworker.embedded import jars
from tests.kit import kafka_jars


@pytest.mark.deploy
def test_the_pinned_jars_are_what_the_pinned_kafka_depends_on(tmp_path: Path) -> None:
    assert list(jars.pinned()) == sorted(kafka_jars.artifacts(tmp_path)), "renew them: make requirements"


def test_the_pinned_jars_have_kafka_in_its_version_and_a_logger() -> None:
    assert {kafka_jars.BROKER, kafka_jars.LOGGING} <= jars.pinned().keys()
