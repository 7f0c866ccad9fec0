"""PostgreSQL and Kafka for tests: from a given address, else from Docker if it answers, else from packages."""

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Iterator

from goalworker import embedded

DOCKER_ANSWER_SECONDS = 2


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Yield the URL of a superuser."""
    if given := os.environ.get("GOALWORKER_TEST_DATABASE_URL"):
        yield given
    elif docker_answers():
        from testcontainers.community.postgres import PostgresContainer

        container = PostgresContainer("postgres:18", driver=None)
        with container.with_command("-c max_connections=200 -c fsync=off") as running:
            yield running.get_connection_url()
    else:
        with embedded.postgres() as server:
            yield server.address


@contextlib.contextmanager
def kafka() -> Iterator[str]:
    """Yield bootstrap servers."""
    if given := os.environ.get("GOALWORKER_TEST_KAFKA"):
        yield given
    elif docker_answers():
        from testcontainers.community.kafka import KafkaContainer

        container = KafkaContainer().with_kraft()
        container.with_envs(
            KAFKA_AUTO_CREATE_TOPICS_ENABLE="false",
            KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="1",
        )
        with container as running:
            yield running.get_bootstrap_server()
    else:
        with embedded.kafka() as server:
            yield server.address


@functools.cache
def docker_answers() -> bool:
    # In a process of its own: without an engine the client leaves a socket open, and warnings are errors here.
    ask = f"import docker; docker.from_env(timeout={DOCKER_ANSWER_SECONDS}).ping()"
    return subprocess.run([sys.executable, "-c", ask], capture_output=True, check=False).returncode == 0
