"""Keys of the console: one for sessions, one for links to contacts."""

import hashlib
import hmac
import secrets

from msgspec import Struct


class Keys(Struct, frozen=True):
    """Keys derived from the installation's secret: a leak of one tells nothing of the others."""

    session: bytes
    contact: bytes


class Installation:
    """The secret of this process."""

    def __init__(self) -> None:
        self._keys = derive(secrets.token_bytes(32))

    async def keys(self) -> Keys:
        """Return the keys."""
        return self._keys


def derive(secret: bytes) -> Keys:
    """Return the keys that a secret stands for."""
    return Keys(_derived(secret, b"session", 32), _derived(secret, b"contact", 64))


def _derived(secret: bytes, purpose: bytes, size: int) -> bytes:
    return hmac.digest(secret, b"goalworker console " + purpose, hashlib.sha512)[:size]
