"""Every command reports what the broker refuses with a sentence and an exit code, without a traceback."""

import functools
from collections.abc import Iterator, Mapping

import pytest

from goalworker.pipeline import dead_letters
from tests.integration.refusing import assert_refused
from tests.kit import every_command, secure_broker, shells, support
from tests.kit.forker import Forker, Outcome
from tests.kit.secure_broker import DESCRIBE, GROUP, READ, TOPIC, Right

TOPICS = support.fresh_topics()
GROUP_ID = f"{TOPICS['tag_added']}-group"  # as in shells.variables_of
GROUPS = frozenset((GROUP, name, READ) for name in (GROUP_ID, f"{GROUP_ID}.redrive"))

LETTER = [
    (dead_letters.ORIGINAL_TOPIC, TOPICS["tag_added"].encode()),
    *((name, b"0") for name in (dead_letters.ORIGINAL_PARTITION, dead_letters.ORIGINAL_OFFSET)),
    *((name, b"0") for name in (dead_letters.ORIGINAL_TIMESTAMP, dead_letters.REDRIVE_COUNT)),
    (dead_letters.ERROR_REASON, b"invalid_json"),
]

# By user: the rights on every topic and on groups.
RIGHTS: Mapping[str, frozenset[Right]] = {
    "stranger": frozenset(),
    "onlooker": frozenset((TOPIC, name, DESCRIBE) for name in TOPICS.values()),
    "reader": frozenset((TOPIC, name, READ) for name in TOPICS.values()) | GROUPS,
}
# By user: commands that lack a right, the exit code, and part of the sentence.
LACKING: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "stranger": {
        "run": (4, "may not be described"),
        "insight": (4, "may not be described"),
        "doctor": (1, "may not be described"),
        "topics create": (1, "could not be created"),
        "dlq list": (4, "may not be described"),
        "dlq show": (4, "may not be described"),
        "dlq stats": (4, "may not be described"),
        "dlq redrive": (4, "may not be described"),
        "dlq purge": (4, "may not be described"),
        "lag": (4, "may not be described"),
    },
    "onlooker": {
        "run": (1, "Allow READ"),
        "insight": (1, "Allow READ"),
        "doctor": (1, "allow READ"),
        "dlq list": (1, f"{TOPICS['dead_letters']} may not be used"),
        "dlq show": (1, f"{TOPICS['dead_letters']} may not be used"),
        "dlq stats": (1, f"{TOPICS['redrive']} may not be used"),
        "dlq redrive": (1, f"{TOPICS['redrive']} may not be used"),
        "dlq purge": (1, "allow DELETE on"),
        "lag": (1, GROUP_ID),
    },
    "reader": {
        "insight": (1, f"{GROUP_ID}-insight"),
        "dlq redrive": (1, "allow WRITE on"),
        "dlq purge": (1, "allow DELETE on"),
    },
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[secure_broker.Broker]:
    with secure_broker.running(tmp_path_factory.mktemp("certificates"), *RIGHTS) as running:
        support.run(support.create_topics(running.open, TOPICS))
        support.run(running.allow((user, right) for user, rights in RIGHTS.items() for right in rights))
        support.run(_fill(running))
        yield running


async def _fill(broker: secure_broker.Broker) -> None:
    """Write a record into each topic that `dlq` reads."""
    async with shells.producing(broker.open) as producer:
        await producer.send_and_wait(TOPICS["dead_letters"], b"{", partition=0, headers=LETTER)
        await producer.send_and_wait(TOPICS["redrive"], b"{{", partition=0)


def call(
    forker: Forker, broker: secure_broker.Broker, database_url: str, name: str, user: str, password: str | None = None
) -> Outcome:
    settings = {
        **shells.variables_of("", TOPICS),
        "GOALWORKER_DATABASE__URL": database_url,
        "GOALWORKER_OPS__PORT": "0",
        **broker.settings(user, otherwise={"SASL_PASSWORD": password} if password else {}),
    }
    return forker(every_command.words(name, TOPICS), settings, every_command.USES[name].stdin)


@pytest.mark.parametrize("user", LACKING)
def test_every_command_says_which_right_the_broker_lacks(
    forker: Forker, broker: secure_broker.Broker, database_url: str, user: str
) -> None:
    as_user = functools.partial(call, forker, broker, database_url, user=user)
    for name, outcome in every_command.outcomes(LACKING[user], as_user).items():
        assert_refused(name, outcome, *LACKING[user][name])


def test_every_command_says_that_the_brokers_password_is_wrong(
    forker: Forker, broker: secure_broker.Broker, database_url: str
) -> None:
    mistaken = functools.partial(call, forker, broker, database_url, user="reader", password="pw-wrong")
    for name, outcome in every_command.outcomes(every_command.needing(every_command.BROKER), mistaken).items():
        assert_refused(name, outcome, 4, "GOALWORKER_KAFKA__SASL_PASSWORD")
        assert "Is it running" not in outcome.out + outcome.err


def test_every_command_says_that_the_broker_is_absent(forker: Forker, database_url: str) -> None:
    settings = {
        **shells.variables_of("127.0.0.1:1", TOPICS),
        "GOALWORKER_DATABASE__URL": database_url,
        "GOALWORKER_OPS__PORT": "0",
    }

    def nowhere(name: str) -> Outcome:
        return forker(every_command.words(name, TOPICS), settings, every_command.USES[name].stdin)

    for name, outcome in every_command.outcomes(every_command.needing(every_command.BROKER), nowhere).items():
        assert_refused(name, outcome, 4, "Is it running")
