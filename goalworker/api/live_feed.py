"""Live feed of achievements and exits: one poll of a process serves all of its subscribers (contract section 9)."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol
from weakref import WeakSet

import msgspec

from goalworker import logs
from goalworker.stores.recent_effects import Effect, Recent

log = logs.get("api")

# Seconds between two polls.
POLL_SECONDS: Final = 1.0
# An effect gets its time before its transaction commits: a poll also looks at the time before the last one.
OVERLAP: Final = timedelta(seconds=3)
# Effects of a kind and a tenant that a poll shows; of more, only the newest.
MOST: Final = 200
# A client that comes back within this time gets what it missed.
RESUMED: Final = timedelta(minutes=10)
# Polls that wait for a client that reads slowly; further ones replace the oldest.
QUEUE_MAX: Final = 32
# Without news, a heartbeat keeps proxies from closing the connection.
HEARTBEAT_SECONDS: Final = 15.0
# After this time a feed ends and its client comes back, with credentials that are checked again.
LIFETIME_SECONDS: Final = 900.0
# Feeds of a process, and of one tenant.
SUBSCRIBERS_MAX: Final = 512
SUBSCRIBERS_OF_TENANT_MAX: Final = 256

_BEGINNING: Final = b"retry: 2000\n\n"
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND: Final = timedelta(microseconds=1)


class TooManySubscribersError(Exception):
    """The process, or the tenant, has as many feeds as it may have."""


class Source(Protocol):
    """The recorded effects."""

    async def now(self) -> datetime:
        """Return the time by which effects are recorded."""
        ...

    async def read(self, tenant_ids: Collection[str], since: datetime, most: int) -> Recent:
        """Return the effects of tenants that were recorded after a time: of each and of each kind the newest."""
        ...


class Encoding(Protocol):
    """Form of a stream's events. A poll encodes once for all subscribers of a tenant with equal encodings."""

    @property
    def gap(self) -> bytes:
        """Event that says that some effects were left out."""
        ...

    @property
    def heartbeat(self) -> bytes:
        """Bytes without news, which keep proxies from closing the connection."""
        ...

    def encode(self, effects: Sequence[Effect]) -> bytes:
        """Return effects as events."""
        ...

    def __hash__(self) -> int: ...


class JsonEvents(msgspec.Struct, frozen=True):
    """Events with the data of effects as JSON, each with the time of its recording as id."""

    @property
    def gap(self) -> bytes:
        """Event of its own kind."""
        return b"event: gap\ndata: {}\n\n"

    @property
    def heartbeat(self) -> bytes:
        """Comment."""
        return b":\n\n"

    def encode(self, effects: Sequence[Effect]) -> bytes:
        """Return an event for each effect."""
        return b"".join(
            b"event: %b\nid: %d\ndata: %b\n\n"
            % (effect.kind.encode(), event_id(effect.recorded_at), msgspec.json.encode(effect.data))
            for effect in effects
        )


JSON: Final = JsonEvents()


class Subscription:
    """One client: what it has not taken yet."""

    def __init__(self, encoding: Encoding = JSON) -> None:
        self.encoding = encoding
        self._chunks: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._is_closed = False

    def put(self, chunk: bytes) -> None:
        """Add a chunk; one too many replaces the oldest, and the client is told of the gap."""
        if len(self._chunks) >= QUEUE_MAX:
            self._chunks.popleft()
            self._chunks[0] = self.encoding.gap + self._chunks[0].removeprefix(self.encoding.gap)
        self._chunks.append(chunk)
        self._news.set()

    def close(self) -> None:
        """End the stream once its client has taken what is there."""
        self._is_closed = True
        self._news.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield chunks as they come, and heartbeats between them, until the stream is closed or its time is over."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + LIFETIME_SECONDS
        yield _BEGINNING
        while True:
            while self._chunks:
                yield self._chunks.popleft()
            left = ends_at - loop.time()
            if self._is_closed or left <= 0:
                return
            self._news.clear()
            try:
                async with asyncio.timeout(min(HEARTBEAT_SECONDS, left)):
                    await self._news.wait()
            except TimeoutError:
                yield self.encoding.heartbeat


class LiveFeed:
    """The subscriptions of a process, and the poll that feeds them while there are any."""

    def __init__(self, source: Source) -> None:
        self._source = source
        # Weak, since a client may be gone before its stream begins.
        self._subscriptions: dict[str, WeakSet[Subscription]] = {}
        self._polling: asyncio.Task[None] | None = None
        self._polled_until = _EPOCH
        # Effects within the overlap, which are read again: their times by their keys.
        self._known: dict[tuple[str, object], datetime] = {}
        self._is_closed = False
        self._beginning = asyncio.Lock()

    async def subscribe(
        self, tenant_id: str, last_event_id: str | None = None, encoding: Encoding = JSON
    ) -> Subscription:
        """Return a subscription of a tenant, which begins with what came after that id; TooManySubscribersError."""
        after = _moment(last_event_id)
        if not self._is_polled(tenant_id):
            # Of many clients that come at once, the first one has the database read.
            async with self._beginning:
                if not self._is_polled(tenant_id):
                    return await self._resumed(tenant_id, after, encoding)
        if after is None:
            return self._registered(tenant_id, encoding)
        return await self._resumed(tenant_id, after, encoding)

    async def _resumed(self, tenant_id: str, after: datetime | None, encoding: Encoding) -> Subscription:
        now = await self._source.now()
        after = after or now
        begin = max(after, now - RESUMED)
        recent = await self._source.read([tenant_id], min(begin, now - OVERLAP), MOST)
        if not self._is_polled(tenant_id):
            self._begin(recent)
        subscription = self._registered(tenant_id, encoding)
        missed = [effect for effect in recent.effects if effect.recorded_at > begin]
        if after < begin or _is_cut(missed):
            subscription.put(encoding.gap)
        if past := [effect for effect in missed if self._is_known(effect)]:
            subscription.put(encoding.encode(past))
        return subscription

    def unsubscribe(self, tenant_id: str, subscription: Subscription) -> None:
        """Forget a subscription."""
        self._subscriptions.get(tenant_id, WeakSet()).discard(subscription)

    def close(self) -> None:
        """End all feeds, and every later one at once."""
        self._is_closed = True
        self._close_all()
        if self._polling is not None:
            self._polling.cancel()

    def _check_limits(self, tenant_id: str) -> None:
        count = sum(map(len, self._subscriptions.values()))
        own = len(self._subscriptions.get(tenant_id, ()))
        if count >= SUBSCRIBERS_MAX or own >= SUBSCRIBERS_OF_TENANT_MAX:
            raise TooManySubscribersError

    def _is_polled(self, tenant_id: str) -> bool:
        is_polling = self._polling is not None and not self._polling.done()
        return is_polling and bool(self._subscriptions.get(tenant_id))

    def _begin(self, recent: Recent) -> None:
        """Begin to poll for a tenant, whose effects from before are not new."""
        if self._polling is None or self._polling.done():
            self._known.clear()
            self._polled_until = recent.now
            self._polling = asyncio.create_task(self._poll_while_subscribed(), name="live feed")
        self._known |= {effect.key: effect.recorded_at for effect in recent.effects}

    def _registered(self, tenant_id: str, encoding: Encoding) -> Subscription:
        self._check_limits(tenant_id)
        subscription = Subscription(encoding)
        self._subscriptions.setdefault(tenant_id, WeakSet()).add(subscription)
        if self._is_closed:
            subscription.close()
        return subscription

    def _is_known(self, effect: Effect) -> bool:
        """Say whether no later poll will bring an effect."""
        return effect.key in self._known or effect.recorded_at <= self._polled_until - OVERLAP

    def _close_all(self) -> None:
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close()

    async def _poll_while_subscribed(self) -> None:
        try:
            while not self._is_closed:
                await asyncio.sleep(POLL_SECONDS)
                self._subscriptions = {tenant_id: left for tenant_id, left in self._subscriptions.items() if left}
                if not self._subscriptions:
                    return
                await self._poll()
        except Exception as error:  # noqa: BLE001 - the boundary of a task: clients come back, and then meet the error
            log.warning("live_feed_interrupted", error=type(error).__name__)
            self._close_all()

    async def _poll(self) -> None:
        since = self._polled_until - OVERLAP
        recent = await self._source.read(tuple(self._subscriptions), since, MOST)
        news: dict[str, list[Effect]] = {}
        for effect in recent.effects:
            if effect.key not in self._known:
                news.setdefault(effect.tenant_id, []).append(effect)
                self._known[effect.key] = effect.recorded_at
        self._polled_until = recent.now
        self._known = {key: at for key, at in self._known.items() if at > recent.now - OVERLAP}
        for tenant_id, effects in news.items():
            self._put(tenant_id, effects)

    def _put(self, tenant_id: str, effects: Sequence[Effect]) -> None:
        chunks: dict[Encoding, bytes] = {}
        for subscription in self._subscriptions.get(tenant_id, ()):
            encoding = subscription.encoding
            if encoding not in chunks:
                chunks[encoding] = (encoding.gap if _is_cut(effects) else b"") + encoding.encode(effects)
            subscription.put(chunks[encoding])


def _is_cut(effects: Iterable[Effect]) -> bool:
    """Say whether there may be more than these."""
    return max(Counter(effect.kind for effect in effects).values(), default=0) >= MOST


def event_id(moment: datetime) -> int:
    """Return the id that stands for a moment: a feed that is asked for what came after it goes on there."""
    return (moment - _EPOCH) // _MICROSECOND


def _moment(id_: str | None) -> datetime | None:
    """Return the moment that an id says, None for a foreign one."""
    if id_ is None or not (id_.isascii() and id_.isdecimal() and len(id_) <= 17):
        return None
    return _EPOCH + int(id_) * _MICROSECOND
