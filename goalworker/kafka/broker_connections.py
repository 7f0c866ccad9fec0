"""Errors that aiokafka keeps to itself: why it cannot connect to a broker, and why it cannot join the group.

aiokafka only logs these, and raises something vaguer or retries for ever. Its `client` module calls `create_conn` for
every connection, so install() wraps that function; errors of the group are read off aiokafka's log.
tests/unit/test_broker_connections.py fails first when aiokafka changes either.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

from aiokafka import client, conn
from aiokafka import errors as kafka_errors

# Addresses remembered; beyond this the log starts anew. A cluster has fewer brokers.
_ADDRESSES_MAX: Final = 1_000

Address = tuple[str, int]


class Attempt(NamedTuple):
    """The last attempt to connect to an address, with its error if it failed, at a moment of the log's clock."""

    address: Address
    error: BaseException | None
    at: float


class ConnectionLog:
    """The last attempt to connect to each address."""

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
        """The latest failed attempt, None if the last one at each address succeeded."""
        return next((attempt for attempt in reversed(self._attempts.values()) if attempt.error is not None), None)

    def unreachable_advertised(self, bootstrap: Collection[Address]) -> Attempt | None:
        """Return the last failure at an address that a bootstrap server advertised, if that server itself answered."""
        answered = [self._attempts[address].error is None for address in bootstrap if address in self._attempts]
        failures = [
            attempt
            for address, attempt in self._attempts.items()
            if address not in bootstrap and attempt.error is not None
        ]
        return failures[-1] if any(answered) and failures else None


class LastGroupError(logging.Handler):
    """The last error that aiokafka logged about the group."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._clock = clock
        self._last: tuple[float, BaseException] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Remember the error among a line's arguments, if there is one."""
        parts = record.args if isinstance(record.args, tuple) else ()
        error = next((part for part in parts if isinstance(part, BaseException)), None)
        if error is not None:
            self._last = (self._clock(), error)

    def since(self, moment: float) -> BaseException | None:
        """Return the last error, None if it is older than a moment of the clock."""
        return self._last[1] if self._last is not None and self._last[0] >= moment else None


CONNECTION_LOG: Final = ConnectionLog()
LAST_GROUP_ERROR: Final = LastGroupError()


def install() -> None:
    """Record this process's connections and group errors from now on; a second call changes nothing."""
    client.create_conn = _connect_and_note
    logging.getLogger("aiokafka.consumer.group_coordinator").addHandler(LAST_GROUP_ERROR)


async def _connect_and_note(host: str, port: int, **options: Any) -> Any:
    try:
        connection = await conn.create_conn(host, port, **options)
    except asyncio.CancelledError:
        # The caller gave up waiting, as it does on a host that drops packets.
        CONNECTION_LOG.note(host, port, TimeoutError())
        raise
    except (OSError, TimeoutError, kafka_errors.KafkaError) as error:
        CONNECTION_LOG.note(host, port, error)
        raise
    CONNECTION_LOG.note(host, port, None)
    return connection
