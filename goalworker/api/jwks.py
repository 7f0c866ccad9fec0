"""The public keys that tokens are signed with: fetched by URL, kept, and fetched anew with a bound."""

import asyncio
import json
import time
from typing import Final, Protocol

import httpx
import jwt

from goalworker import outages
from goalworker.api import outbound_http
from goalworker.config import values

ALGORITHMS: Final = ("RS256", "ES256")
# For a key id that nobody knows: whoever sends such tokens cannot make us ask more often.
REFETCH_SECONDS: Final = 10.0
# A key that was withdrawn is trusted no longer than this, as long as its issuer answers.
KEEP_SECONDS: Final = 300.0
FETCH_TIMEOUT_SECONDS: Final = 3.0
_BYTES_MAX: Final = 1_048_576


class JwksUnreachableError(Exception):
    """The keys cannot be had, so that nothing can be said about the token."""


class Clock(Protocol):
    """Seconds that never go back."""

    def __call__(self) -> float: ...


class Jwks:
    """The keys of one issuer, by key id."""

    def __init__(
        self, url: str, client: httpx.AsyncClient, journal: outages.Journal, clock: Clock = time.monotonic
    ) -> None:
        self._url = url
        self._client = client
        self._journal = journal
        self._clock = clock
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._tried_at = self._fetched_at = -KEEP_SECONDS
        self._is_known = False
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """Return the key of that id, the only key for None; raises Unreachable where it was not possible to look."""
        if self._is_stale(key_id):
            async with self._fetching:
                if self._is_stale(key_id):
                    await self._fetch()
        found = self._find(key_id)
        if found is None and not self._is_known:
            raise JwksUnreachableError
        return found

    def _find(self, key_id: str | None) -> jwt.PyJWK | None:
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)

    def _is_stale(self, key_id: str | None) -> bool:
        now = self._clock()
        is_wanted = self._find(key_id) is None or now - self._fetched_at >= KEEP_SECONDS
        return is_wanted and now - self._tried_at >= REFETCH_SECONDS

    async def _fetch(self) -> None:
        """Replace the keys by those there are now; what cannot be fetched leaves them as they are."""
        self._tried_at = self._clock()
        self._is_known = False
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                status, body = await outbound_http.get(self._client, self._url, _BYTES_MAX)
            self._keys = _keys(status, body)
        except (httpx.HTTPError, TimeoutError, ValueError, RecursionError) as error:
            reason = str(error).partition("\n")[0] or "no answer in time"
            where = values.masked_url(self._url)
            self._journal.report("jwks", f"the keys of tokens cannot be fetched from {where}: {reason}")
            return
        self._journal.report("jwks", None)
        self._is_known = True
        self._fetched_at = self._tried_at


def _keys(status: int, body: bytes | None) -> dict[str | None, jwt.PyJWK]:
    if status != httpx.codes.OK or body is None:
        raise ValueError(f"it answered {status} with {f'more than {_BYTES_MAX}' if body is None else len(body)} bytes")
    given = json.loads(body)
    listed = given.get("keys") if isinstance(given, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it answered no set of keys")  # noqa: TRY004 - one kind of error for all that it may answer
    found = [key for each in listed if isinstance(each, dict) and (key := _key(each)) is not None]
    return {key.key_id: key for key in found}


def _key(given: dict[str, object]) -> jwt.PyJWK | None:
    """Return a key that we take tokens by; a set may have others, for others."""
    if given.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK.from_dict(given)
    except jwt.PyJWTError:
        return None
    return key if key.algorithm_name in ALGORITHMS else None
