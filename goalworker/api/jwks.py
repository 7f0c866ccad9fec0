"""Public keys of the tokens' issuer: fetched from a URL, cached, refetched at a bounded rate.

PyJWKClient is not used: it limits neither the size of an answer nor its total time, loses expired keys while the issuer
is down, and retries a failed fetch for every token.
"""

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
# Seconds between fetches, also for unknown key ids and after failures: made-up tokens cannot cause more of them.
REFETCH_SECONDS: Final = 10.0
# Seconds until a refetch; while the issuer answers, a withdrawn key is trusted no longer than this.
CACHE_SECONDS: Final = 300.0
# Seconds for a whole fetch; then it counts as failed, as does an answer of more bytes.
FETCH_TIMEOUT_SECONDS: Final = 3.0
_BYTES_MAX: Final = 1_048_576


class JwksUnreachableError(Exception):
    """The keys could not be fetched, so the token can be neither accepted nor refused."""


class Clock(Protocol):
    """A monotonic clock in seconds."""

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
        self._tried_at = self._fetched_at = -CACHE_SECONDS
        self._has_current_keys = False
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """Return the key with that id, or the only key for None.

        JwksUnreachableError if the key is unknown and the last fetch failed.
        """
        if self._is_stale(key_id):
            async with self._fetching:
                if self._is_stale(key_id):
                    await self._fetch()
        found = self._find(key_id)
        if found is None and not self._has_current_keys:
            raise JwksUnreachableError
        return found

    def _find(self, key_id: str | None) -> jwt.PyJWK | None:
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)

    def _is_stale(self, key_id: str | None) -> bool:
        now = self._clock()
        needs_fetch = self._find(key_id) is None or now - self._fetched_at >= CACHE_SECONDS
        return needs_fetch and now - self._tried_at >= REFETCH_SECONDS

    async def _fetch(self) -> None:
        """Replace the keys; a failed fetch leaves them as they are."""
        self._tried_at = self._clock()
        self._has_current_keys = False
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                status, body = await outbound_http.get(self._client, self._url, _BYTES_MAX)
            self._keys = _keys(status, body)
        except (httpx.HTTPError, TimeoutError, ValueError, RecursionError) as error:
            reason = str(error).partition("\n")[0] or "no answer in time"
            url = values.masked_url(self._url)
            self._journal.report("jwks", f"the keys of tokens cannot be fetched from {url}: {reason}")
            return
        self._journal.report("jwks", None)
        self._has_current_keys = True
        self._fetched_at = self._tried_at


def _keys(status: int, body: bytes | None) -> dict[str | None, jwt.PyJWK]:
    if body is None:
        raise ValueError(f"it answered {status} with more than {_BYTES_MAX} bytes")
    if status != httpx.codes.OK:
        raise ValueError(f"it answered {status} with {len(body)} bytes")
    answer = json.loads(body)
    jwk_set = answer.get("keys") if isinstance(answer, dict) else None
    if not isinstance(jwk_set, list):
        raise ValueError("the answer is not a set of keys")  # noqa: TRY004 - one kind of error for every bad answer
    keys = [key for jwk in jwk_set if isinstance(jwk, dict) and (key := _key(jwk)) is not None]
    return {key.key_id: key for key in keys}


def _key(jwk: dict[str, object]) -> jwt.PyJWK | None:
    """Return a key that may sign tokens for us; a set may contain keys for other uses."""
    if jwk.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK.from_dict(jwk)
    except jwt.PyJWTError:
        return None
    return key if key.algorithm_name in ALGORITHMS else None
