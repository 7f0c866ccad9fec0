"""Limits of login attempts, by address and overall: a bounded number of times of failures."""

import ipaddress
from collections import OrderedDict, deque
from typing import Final

WINDOW_SECONDS: Final = 300.0
# Failures within the window, of an address and of all together; a further attempt is refused. Keys cannot be guessed:
# the limit keeps guesses from costing the database anything.
FAILURES_MAX: Final = 10
FAILURES_OF_ALL_MAX: Final = 300
# Addresses that are remembered; a further one replaces the one that failed longest ago.
ADDRESSES_MAX: Final = 10_000
# Digits of an IPv6 address that a provider gives to one customer.
_IPV6_PREFIX: Final = 64


class LoginLimits:
    """The failures of a process."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, deque[float]] = OrderedDict()
        self._of_all: deque[float] = deque(maxlen=FAILURES_OF_ALL_MAX)

    def seconds_to_wait(self, address: str, now: float) -> float:
        """Return after how many seconds an address may try again, 0 for at once. `now` is of a monotonic clock."""
        own = self._of.get(_network(address), deque[float]())
        return max(_wait(own, FAILURES_MAX, now), _wait(self._of_all, FAILURES_OF_ALL_MAX, now))

    def failed(self, address: str, now: float) -> None:
        """Remember a failure."""
        network = _network(address)
        failures = self._of.setdefault(network, deque(maxlen=FAILURES_MAX))
        failures.append(now)
        self._of.move_to_end(network)
        self._of_all.append(now)
        if len(self._of) > ADDRESSES_MAX:
            self._of.popitem(last=False)


def _wait(failures: deque[float], most: int, now: float) -> float:
    return max(0.0, failures[0] + WINDOW_SECONDS - now) if len(failures) == most else 0.0


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((ip, _IPV6_PREFIX), strict=False)) if ip.version == 6 else address
