"""Circuit breaker of a topic: trips when too many of its latest records are dead letters (contract section 4).

What one tenant sends must not stop the events of the others, so the records of the tenant with the most dead letters
are not enough to trip it.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

from msgspec import Struct

Tenant = str | None
"""A tenant; None stands for all records whose tenant cannot be told."""
Record = TypeVar("Record")

# Bytes of a topic's records, those of one large fetch, that are kept in case their tenants are asked for. Beyond them,
# the tenants are found out at once.
KEPT_BYTES_MAX: Final = 16 * 1024 * 1024
# Dead letters below which a tenant is not reported: a few of few records say little.
REPORTED_LETTERS_MIN: Final = 10


class TenantShare(Struct, frozen=True):
    """The number of a tenant's records among a topic's latest ones, and how many of them are dead letters."""

    tenant_id: Tenant
    dead_letters: int
    records: int

    @property
    def is_mostly_dead(self) -> bool:
        """True if more than half of the records are dead letters, and these are more than a few."""
        return self.dead_letters >= REPORTED_LETTERS_MIN and self.dead_letters * 2 > self.records


class _Told(Struct, frozen=True, gc=False):
    """A record of the window that was replaced by its tenant."""

    tenant: Tenant


_DEAD: Final = _Told(None)  # in place of a dead letter, whose tenant is kept with its number


class Breaker(Generic[Record]):
    """A breaker that trips when more than max_ratio of a topic's last `window` records were dead letters.

    They must exceed max_ratio also among the records of all tenants but the one with the most dead letters, if there
    are such records; of several with the most, the one with the fewest records is left out. tenant_of, which tells the
    tenant of a good record, is called only for a topic that exceeds max_ratio or whose window has too many bytes.
    """

    def __init__(
        self, max_ratio: float, window: int, tenant_of: Callable[[Record], Tenant], size_of: Callable[[Record], int]
    ) -> None:
        self._max_ratio = max_ratio
        self._size = window
        self._tenant_of = tenant_of
        self._size_of = size_of
        self._records: deque[Record | _Told] = deque(maxlen=window)
        self._next_number = self._told_until = 0  # of records, counted from the first one
        self._letters: deque[tuple[int, Tenant]] = deque()  # numbers and tenants of the dead letters in the window
        self._dead = _DeadLetters()
        self._good: Counter[Tenant] | None = None  # good records in the window by tenant; None while not all are told
        self._kept_bytes = 0  # at least the bytes of the records in the window

    def admit(self, records: Sequence[Record], dead: Mapping[int, Tenant], size_bytes: int = 0) -> int | None:
        """Count a topic's records in order; return the position of the first that may not pass, None if all may.

        dead maps the positions of dead letters to their tenants. The records have at most size_bytes.
        """
        if len(self._letters) + len(dead) <= self._max_ratio * self._size:
            self._count_all(records, dead)
        else:
            for position, record in enumerate(records):
                self._count(record, dead.get(position), is_dead=position in dead)
                if self._is_tripped():
                    return position
        self._kept_bytes += size_bytes
        if self._kept_bytes > KEPT_BYTES_MAX:
            self._bound_bytes()
        return None

    def condemn(self, tenants: Iterable[Tenant]) -> bool:
        """Count the newest good records of these tenants as dead after all; say whether the breaker trips."""
        condemned, number = Counter(tenants), self._next_number
        dead = {number for number, _ in self._letters}
        for record in reversed(self._records):
            number -= 1
            if number not in dead and condemned[tenant := self._tenant(record)]:
                _subtract(condemned, tenant)
                self._letters.append((number, tenant))
                self._dead.add(tenant)
                if self._good is not None:
                    _subtract(self._good, tenant)
            if not condemned:
                break
        self._letters = deque(sorted(self._letters, key=_number))
        return self._is_tripped()

    def shares(self) -> list[TenantShare]:
        """Return the shares of the tenants that have more than a few dead letters in the window."""
        many = {tenant: count for tenant, count in self._dead.counts.items() if count >= REPORTED_LETTERS_MIN}
        good = self._count_good() if many else Counter()
        return [TenantShare(tenant, count, count + good[tenant]) for tenant, count in many.items()]

    def _count_all(self, records: Sequence[Record], dead: Mapping[int, Tenant]) -> None:
        """Count records that cannot trip the breaker, without a look at the good ones."""
        if self._good is not None:
            self._good, self._told_until = None, self._next_number
        for position, tenant in sorted(dead.items(), key=_number):
            self._letters.append((self._next_number + position, tenant))
            self._dead.add(tenant)
        self._records.extend(records[-self._size :] if len(records) > self._size else records)
        self._next_number += len(records)
        while self._letters and self._letters[0][0] < self._next_number - self._size:
            self._dead.remove(self._letters.popleft()[1])

    def _count(self, record: Record, tenant: Tenant, *, is_dead: bool) -> None:
        if len(self._records) == self._size:
            self._forget_oldest()
        if is_dead:
            self._letters.append((self._next_number, tenant))
            self._dead.add(tenant)
            self._records.append(_DEAD)
        elif self._good is None:
            self._records.append(record)
        else:
            told = _Told(self._tenant_of(record))
            self._good[told.tenant] += 1
            self._records.append(told)
        self._next_number += 1

    def _forget_oldest(self) -> None:
        oldest = self._records.popleft()
        if self._letters and self._letters[0][0] == self._next_number - self._size:
            self._dead.remove(self._letters.popleft()[1])
        elif self._good is not None:
            _subtract(self._good, self._tenant(oldest))

    def _is_tripped(self) -> bool:
        is_full = len(self._records) == self._size
        return is_full and len(self._letters) > self._max_ratio * self._size and self._is_exceeded_by_others()

    def _is_exceeded_by_others(self) -> bool:
        """Say whether the records of the other tenants exceed the ratio too; without any, the whole window decides."""
        good, (dead, tenants) = self._count_good(), self._dead.most()
        others = self._size - dead - min(good[tenant] for tenant in tenants)
        return others == 0 or len(self._letters) - dead > self._max_ratio * others

    def _count_good(self) -> Counter[Tenant]:
        """Return the number of good records of each tenant in the window."""
        if self._good is None:
            self._tell()
            dead, first = {number for number, _ in self._letters}, self._next_number - len(self._records)
            numbered = enumerate(self._records, first)
            self._good = Counter(self._tenant(record) for number, record in numbered if number not in dead)
        return self._good

    def _bound_bytes(self) -> None:
        """Count the bytes of the records in the window; if they are too many, keep only their tenants."""
        newest = islice(reversed(self._records), self._untold())
        self._kept_bytes = sum(self._size_of(record) for record in newest if not isinstance(record, _Told))
        if self._kept_bytes > KEPT_BYTES_MAX:
            self._tell()
            self._kept_bytes = 0

    def _untold(self) -> int:
        return min(self._next_number - self._told_until, len(self._records))

    def _tell(self) -> None:
        """Replace the records whose tenants were not told yet, which are the newest ones."""
        dead = {number for number, _ in self._letters}
        untold = [self._records.pop() for _ in range(self._untold())]
        for number, record in enumerate(reversed(untold), self._next_number - len(untold)):
            self._records.append(_DEAD if number in dead else _Told(self._tenant(record)))
        self._told_until = self._next_number

    def _tenant(self, record: Record | _Told) -> Tenant:
        return record.tenant if isinstance(record, _Told) else self._tenant_of(record)


class _DeadLetters:
    """The number of dead letters of each tenant, and the tenants by that number."""

    def __init__(self) -> None:
        self.counts: Counter[Tenant] = Counter()
        self._tenants: defaultdict[int, dict[Tenant, None]] = defaultdict(dict)
        self._most = 0

    def add(self, tenant: Tenant) -> None:
        self._move(tenant, self.counts[tenant] + 1)

    def remove(self, tenant: Tenant) -> None:
        self._move(tenant, self.counts[tenant] - 1)

    def most(self) -> tuple[int, Iterable[Tenant]]:
        """Return the highest number of dead letters of a tenant, and the tenants that have so many."""
        return self._most, self._tenants[self._most]

    def _move(self, tenant: Tenant, count: int) -> None:
        before = self.counts.pop(tenant, 0)
        self._tenants[before].pop(tenant, None)
        if not self._tenants[before]:
            del self._tenants[before]
        if count:
            self.counts[tenant] = count
            self._tenants[count][tenant] = None
        if count > self._most or (before == self._most and before not in self._tenants):
            self._most = count


def _number(numbered: tuple[int, Tenant]) -> int:
    return numbered[0]


def _subtract(counts: Counter[Tenant], tenant: Tenant) -> None:
    counts[tenant] -= 1
    if not counts[tenant]:
        del counts[tenant]
