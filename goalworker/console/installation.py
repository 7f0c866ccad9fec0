"""Keys of the console: one for sessions, one for links to contacts."""

import hashlib
import hmac

from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker.stores import console_secret


class Keys(Struct, frozen=True):
    """Keys derived from the installation's secret: a leak of one tells nothing of the others."""

    session: bytes
    contact: bytes


class Installation:
    """The installation's secret in its database, read once: it never changes, so all processes have the same keys."""

    def __init__(self, pool: sa_async.AsyncEngine) -> None:
        self._pool = pool
        self._keys: Keys | None = None

    async def keys(self) -> Keys:
        """Return the keys."""
        if self._keys is None:
            self._keys = derive(await console_secret.read(self._pool))
        return self._keys


def derive(secret: bytes) -> Keys:
    """Return the keys that a secret stands for."""
    return Keys(_derived(secret, b"session", 32), _derived(secret, b"contact", 64))


def _derived(secret: bytes, purpose: bytes, size: int) -> bytes:
    return hmac.digest(secret, b"goalworker console " + purpose, hashlib.sha512)[:size]
