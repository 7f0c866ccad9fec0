"""A broker with an unreachable advertised address, the most common mistake with Kafka, is reported by every command."""

from collections.abc import Iterator

import pytest

from goalworker import embedded
from goalworker.embedded import machine
from tests.kit import every_command, shells, support
from tests.kit.shells import Shell

TOPICS = support.fresh_topics()
# doctor continues with other checks, and has a test of its own
COMMANDS = [name for name in every_command.needing(every_command.BROKER) if name != "doctor"]


@pytest.fixture(scope="module")
def misled() -> Iterator[tuple[str, str]]:
    """Address of a broker, and its advertised address, where nothing listens."""
    port, nobody, controller = (machine.free_port() for _ in range(3))
    addresses = [f"{machine.LOOPBACK}:{each}" for each in (port, nobody, controller)]
    properties = {
        "listeners": f"BROKER://{addresses[0]},CONTROLLER://{addresses[2]}",
        "advertised.listeners": f"BROKER://{addresses[1]}",
        "controller.quorum.voters": f"1@{addresses[2]}",
    }
    with embedded.kafka(extra_properties=properties):
        yield addresses[0], addresses[1]


@pytest.mark.real_world(
    "confluent-kafka-go#70", "advertised.listeners names a host that the client cannot reach; bootstrapping works"
)
@pytest.mark.parametrize("name", COMMANDS)
def test_an_advertised_address_that_cannot_be_reached_is_named(
    name: str, misled: tuple[str, str], with_database: Shell
) -> None:
    bootstrap, advertised = misled
    shell = with_database.set({**shells.variables_of(bootstrap, TOPICS), "GOALWORKER_OPS__PORT": "0"})
    outcome = shell(*every_command.words(name, TOPICS))
    assert (outcome.code, outcome.out) == (4, ""), outcome
    sentence = shells.last_words(outcome)
    assert f"Kafka at {bootstrap} answers, and names {advertised} as the broker to talk to" in sentence
    assert "advertised.listeners" in sentence


def test_doctor_names_the_advertised_address_that_cannot_be_reached(
    misled: tuple[str, str], with_database: Shell
) -> None:
    bootstrap, advertised = misled
    outcome = with_database.set(shells.variables_of(bootstrap, TOPICS))("doctor")
    assert outcome.code == 1
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("problem")]
    assert f"names {advertised}" in line
