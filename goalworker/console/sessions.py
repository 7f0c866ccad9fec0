"""Sessions of the console: a signed cookie instead of an API key."""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import itsdangerous
import msgspec
from fastapi import Request
from msgspec import Struct
from starlette.responses import Response

from goalworker.console import addresses
from goalworker.console.installation import Keys
from goalworker.stores import api_keys

COOKIE: Final = "goalworker_session"
LIFETIME: Final = timedelta(hours=12)
_SALT: Final = b"session"
# Browsers keep cookies of up to 4 KiB; ours has 600 bytes at most.
_LENGTH_MAX: Final = 2_048


class Session(Struct, frozen=True):
    """A session: whose key it stands for, until when, and a seed that its CSRF token is made of."""

    key_id: UUID
    tenant_id: str
    expires_at: datetime
    seed: str


def begin(key: api_keys.KeyHolder, now: datetime) -> Session:
    """Return a new session for the holder of a key."""
    return Session(key.id, key.tenant_id, now + LIFETIME, secrets.token_urlsafe(16))


def signed(keys: Keys, session: Session) -> str:
    """Return the value of the cookie of a session."""
    return _signer(keys).sign(itsdangerous.encoding.base64_encode(msgspec.json.encode(session))).decode()


def verified(keys: Keys, value: str, now: datetime) -> Session | None:
    """Return the session of a cookie, or None where we did not sign it or its time is over."""
    if len(value) > _LENGTH_MAX:
        return None
    try:
        signed_ = _signer(keys).unsign(value.encode())
        session = msgspec.json.decode(itsdangerous.encoding.base64_decode(signed_), type=Session)
    except (itsdangerous.BadData, msgspec.MsgspecError, ValueError):
        return None
    return session if session.expires_at > now else None


def csrf_token(keys: Keys, seed: str) -> str:
    """Return the token that forms of a session carry."""
    return hmac.new(keys.session, b"csrf " + seed.encode(), hashlib.sha256).hexdigest()


def _signer(keys: Keys) -> itsdangerous.Signer:
    return itsdangerous.Signer(keys.session, salt=_SALT, key_derivation="hmac", digest_method=hashlib.sha256)


# --- the cookie ---

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def set_cookie(request: Request, response: Response, value: str) -> None:
    """Give a browser the cookie of a session."""
    response.set_cookie(
        COOKIE,
        value,
        max_age=int(LIFETIME.total_seconds()),
        path=addresses.url(request, addresses.CONSOLE),
        secure=_is_over_tls(request),
        httponly=True,
        samesite="strict",
    )


def delete_cookie(request: Request, response: Response) -> None:
    """Take the cookie of a session away."""
    response.delete_cookie(
        COOKIE,
        path=addresses.url(request, addresses.CONSOLE),
        secure=_is_over_tls(request),
        httponly=True,
        samesite="strict",
    )


def _is_over_tls(request: Request) -> bool:
    """Say whether a browser asked over TLS, also where a proxy does not say so, since the browser names its origin."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
