"""What aiokafka keeps to itself: why it could not connect to a broker, and why it could not join the group.

It only logs that, and raises something vaguer, or tries again for ever. Its `client` module calls `create_conn` for
every connection, so that function is wrapped here, and nowhere else; what goes wrong with a group is read off its log.
tests/unit/test_broker_connections.py fails first when the library does either in another way.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

from aiokafka import client, conn
from aiokafka import errors as kafka_errors

# Addresses remembered at most: a cluster has fewer brokers.
_ADDRESSES_MAX: Final = 1_000

Address = tuple[str, int]


class Attempt(NamedTuple):
    """The last connection to an address: error is None if it succeeded; at is by the clock of `Connections`."""

    address: Address
    error: BaseException | None
    at: float


class ConnectionLog:
    """The last attempt at each address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._attempts: dict[Address, Attempt] = {}

    def note(self, host: str, port: int, error: BaseException | None) -> None:
        """Record how an attempt ended."""
        if len(self._attempts) >= _ADDRESSES_MAX:
            self._attempts.clear()
        self._attempts.pop((host, port), None)
        self._attempts[host, port] = Attempt((host, port), error, self._clock())

    @property
    def last_failure(self) -> Attempt | None:
        """The latest attempt that failed, None if the last one at each address succeeded."""
        return next((attempt for attempt in reversed(self._attempts.values()) if attempt.error is not None), None)

    def unreachable_advertised(self, bootstrap: Collection[Address]) -> Attempt | None:
        """Return the last failure at an address that a bootstrap server named, if that server itself answered."""
        answered = [self._attempts[address].error is None for address in bootstrap if address in self._attempts]
        failures = [
            attempt
            for address, attempt in self._attempts.items()
            if address not in bootstrap and attempt.error is not None
        ]
        return failures[-1] if any(answered) and failures else None


CONNECTION_LOG: Final = ConnectionLog()


def install() -> None:
    """Note connections and group errors from now on, in this process; another call changes nothing."""
    client.create_conn = _create_and_note
    logging.getLogger("aiokafka.consumer.group_coordinator").addHandler(GROUP_ERROR_LOG)


async def _create_and_note(host: str, port: int, **options: Any) -> Any:
    try:
        connection = await conn.create_conn(host, port, **options)
    except asyncio.CancelledError:
        # Whoever waited gave up, as with a host that drops packets.
        CONNECTION_LOG.note(host, port, TimeoutError())
        raise
    except (OSError, TimeoutError, kafka_errors.KafkaError) as error:
        CONNECTION_LOG.note(host, port, error)
        raise
    CONNECTION_LOG.note(host, port, None)
    return connection


class GroupErrorLog(logging.Handler):
    """Keeps the last error of the coordinator of a group."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._last: tuple[float, BaseException] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the error that a line is about, if there is one."""
        parts = record.args if isinstance(record.args, tuple) else ()
        error = next((part for part in parts if isinstance(part, BaseException)), None)
        if error is not None:
            self._last = (self._clock(), error)

    def last_since(self, moment: float) -> BaseException | None:
        """Return the last error, None if there was none since a moment of the clock."""
        return self._last[1] if self._last is not None and self._last[0] >= moment else None


GROUP_ERROR_LOG: Final = GroupErrorLog()
