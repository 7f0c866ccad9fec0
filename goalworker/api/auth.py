"""Authentication and scopes: a token, an API key, or on a local machine one tenant without credentials."""

from typing import Annotated, Any, Final
from uuid import UUID

import httpx
import structlog
from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes
from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config, logs, outages
from goalworker.api import jwks, problems, tokens
from goalworker.stores import answer_cache, api_keys

log = logs.get("api")

GOALS_READ, GOALS_WRITE, ENROLLMENTS_WRITE = api_keys.SCOPES
CHALLENGE: Final = "Bearer"
# Seconds for which the feeds of a key, of which many may open at once, share the answer that it exists.
_SHARED_SECONDS: Final = 1.0


class Caller(Struct, frozen=True):
    """The caller of a request: tenant, name in the audit, scopes, and the id of the key, if it is one of ours."""

    tenant_id: str
    actor: str
    scopes: frozenset[str]
    key_id: UUID | None = None


class Authenticator:
    """Authentication of callers by token or key."""

    def __init__(
        self, pool: sa_async.AsyncEngine, verify: tokens.Verify | None = None, insecure_tenant: str | None = None
    ) -> None:
        self._pool = pool
        self._verify = verify
        all_scopes = frozenset(api_keys.SCOPES)
        self._insecure_caller = Caller(insecure_tenant, "insecure", all_scopes) if insecure_tenant else None
        self._keys_that_exist = answer_cache.BriefCache(_SHARED_SECONDS)

    @property
    def insecure_caller(self) -> Caller | None:
        """The caller of every request where requests need no credentials, else None."""
        return self._insecure_caller

    async def caller(self, token: str | None, key: str | None) -> Caller:
        """Return the caller, by the token if both are present; ProblemError 401, or 503 without the keys of tokens."""
        if self._insecure_caller:
            return self._insecure_caller
        if token is not None:
            return await self._by_token(token)
        if key is not None:
            return await self._by_key(key)
        raise _unauthenticated("Send `Authorization: Bearer <token>` or `X-API-Key: <key>`", CHALLENGE)

    async def _by_token(self, token: str) -> Caller:
        if self._verify is None:
            raise _unauthenticated("Tokens are not accepted here; send `X-API-Key: <key>`")
        try:
            claims = await self._verify(token)
        except tokens.BadTokenError as error:
            raise _unauthenticated(str(error)) from None
        except jwks.JwksUnreachableError:
            raise problems.unavailable("The keys that sign tokens cannot be fetched", "jwks") from None
        return Caller(claims["tenant_id"], claims["sub"], frozenset(claims.get("scope", "").split(" ")))

    async def _by_key(self, key: str) -> Caller:
        holder = await api_keys.find(self._pool, key)
        if holder is None:
            raise _unauthenticated("The key is unknown or revoked", CHALLENGE)
        return caller_of(holder)

    async def has_key_still(self, caller: Caller) -> bool:
        """Say whether the key of a caller is not revoked; a caller without one has nothing to revoke."""
        key_id = caller.key_id
        if key_id is None:
            return True

        async def exists() -> bool:
            return await api_keys.find_by_id(self._pool, caller.tenant_id, key_id) is not None

        return await self._keys_that_exist.answer((caller.tenant_id, key_id), exists)


def caller_of(key: api_keys.KeyHolder) -> Caller:
    """Return the caller that a key stands for."""
    return Caller(key.tenant_id, key.name, frozenset(key.scopes), key.id)


def authenticator(
    settings: config.Settings,
    pool: sa_async.AsyncEngine,
    client: httpx.AsyncClient,
    insecure_tenant: str | None,
    journal: outages.Journal,
) -> Authenticator:
    """Return the authenticator for the settings; it always accepts API keys."""
    api = settings.api
    expected = {"issuer": api.jwt_issuer or "", "audience": api.jwt_audience or ""}
    verify: tokens.Verify | None = None
    if api.jwt_secret is not None:
        secret = api.jwt_secret.get_secret_value()
        if len(secret.encode()) < tokens.SECRET_BYTES_MIN:
            log.warning("jwt_secret_is_short", advice=f"use {tokens.SECRET_BYTES_MIN} random bytes or more")
        verify = tokens.by_secret(secret, **expected)
    elif api.jwks_url is not None:
        verify = tokens.by_keys(jwks.Jwks(api.jwks_url, client, journal), **expected)
    return Authenticator(pool, verify, insecure_tenant)


def _unauthenticated(detail: str, challenge: str = f'{CHALLENGE} error="invalid_token"') -> problems.ProblemError:
    return problems.ProblemError(problems.UNAUTHENTICATED, detail, headers={"WWW-Authenticate": challenge})


# --- dependencies of routes ---

_SCOPES: Final = (
    f"Scopes: `{GOALS_READ}` for everything that only reads, `{GOALS_WRITE}` for goals and their settings, "
    f"`{ENROLLMENTS_WRITE}` for importing enrollments. No scope implies another."
)
_BEARER: Final = HTTPBearer(
    scheme_name="token",
    bearerFormat="JWT",
    description="A JSON Web Token signed with HS256, RS256 or ES256, with the claims `exp`, `iss`, `aud`, `tenant_id`, "
    f"`sub` and `scope` (separated by spaces). {_SCOPES}",
    auto_error=False,
)
_KEY: Final = APIKeyHeader(
    name="X-API-Key",
    scheme_name="key",
    description="A key from `goalworker keys create --tenant T --name N --scope goals:read,goals:write`, printed once. "
    + _SCOPES,
    auto_error=False,
)


async def _caller(
    request: Request,
    scopes: SecurityScopes,
    bearer: Annotated[Any, Security(_BEARER)],
    key: Annotated[str | None, Security(_KEY)],
) -> Caller:
    authenticator_: Authenticator = request.app.state.authenticator
    caller = await authenticator_.caller(bearer and bearer.credentials, key)
    structlog.contextvars.bind_contextvars(tenant_id=caller.tenant_id)
    for scope in scopes.scopes:
        if scope not in caller.scopes:
            challenge = f'{CHALLENGE} error="insufficient_scope", scope="{scope}"'
            detail = f"The scope `{scope}` is required"
            raise problems.ProblemError(problems.FORBIDDEN, detail, headers={"WWW-Authenticate": challenge})
    await request.app.state.own_tenants.check(caller.tenant_id)
    return caller


Reader = Annotated[Caller, Security(_caller, scopes=[GOALS_READ])]
Writer = Annotated[Caller, Security(_caller, scopes=[GOALS_WRITE])]
Enroller = Annotated[Caller, Security(_caller, scopes=[ENROLLMENTS_WRITE])]
