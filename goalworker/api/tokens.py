"""JSON Web Tokens: their signature, issuer, audience, times and claims (contract section 5)."""

import warnings
from collections.abc import Mapping
from typing import Any, Final, Protocol

import jwt

from goalworker.api import jwks
from goalworker.domain.text import TEXT_RULE, is_valid_text

# Tolerance between our clock and the issuer's.
LEEWAY_SECONDS: Final = 30
# A shorter secret is logged as a warning at the start.
SECRET_BYTES_MIN: Final = 32
# Longer tokens are refused before they are parsed.
BYTES_MAX: Final = 8_192
# The start logs this once; PyJWT would warn with every token.
warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)

_REQUIRED: Final = ["exp", "iss", "aud", "sub", "tenant_id"]


class BadTokenError(Exception):
    """The token is not accepted; the sentence says why, without helping a forger."""


class Verify(Protocol):
    """Check of a token's signature and claims that returns the claims; BadTokenError, JwksUnreachableError."""

    async def __call__(self, token: str) -> dict[str, Any]: ...


def by_secret(secret: str, *, issuer: str, audience: str) -> Verify:
    """Return a check of HS256 tokens against a secret."""

    async def verify(token: str) -> dict[str, Any]:
        return _claims(token, secret, ("HS256",), issuer, audience)

    return verify


def by_keys(keys: jwks.Jwks, *, issuer: str, audience: str) -> Verify:
    """Return a check of RS256 and ES256 tokens against published keys."""

    async def verify(token: str) -> dict[str, Any]:
        key = await keys.find(_key_id(token))
        if key is None:
            raise BadTokenError("The token is signed with an unknown key")
        return _claims(token, key, (key.algorithm_name,), issuer, audience)

    return verify


def _key_id(token: str) -> str | None:
    try:
        header = jwt.get_unverified_header(_checked_size(token))
    except (jwt.PyJWTError, ValueError) as error:
        raise _bad(error) from None
    # Checked before the lookup of the key, so that other tokens cause no fetch.
    if header.get("alg") not in jwks.ALGORITHMS:
        raise BadTokenError(f"The token must be signed with {' or '.join(jwks.ALGORITHMS)}")
    key_id = header.get("kid")
    return key_id if isinstance(key_id, str) else None


def _claims(
    token: str, key: jwt.PyJWK | str, algorithms: tuple[str, ...], issuer: str, audience: str
) -> dict[str, Any]:
    try:
        claims = jwt.decode(
            _checked_size(token),
            key,
            algorithms=list(algorithms),
            issuer=issuer,
            audience=audience,
            leeway=LEEWAY_SECONDS,
            options={"require": _REQUIRED},
        )
    except (jwt.PyJWTError, ValueError) as error:
        raise _bad(error) from None
    for claim in ("sub", "tenant_id"):
        if not isinstance(claims[claim], str) or not is_valid_text(claims[claim]):
            raise BadTokenError(f"The token's `{claim}` {TEXT_RULE}")
    if not isinstance(claims.get("scope", ""), str):
        raise BadTokenError("The token's `scope` must be text: scopes separated by spaces")
    return claims


def _checked_size(token: str) -> str:
    if len(token) > BYTES_MAX:
        raise BadTokenError(f"The token is longer than {BYTES_MAX} bytes")
    return token


_SENTENCES: Final[Mapping[type[Exception], str]] = {
    jwt.ExpiredSignatureError: "The token has expired",
    jwt.ImmatureSignatureError: "The token is not valid yet",
    jwt.InvalidAudienceError: "The token is for another audience",
    jwt.InvalidIssuerError: "The token is from another issuer",
    jwt.InvalidAlgorithmError: "The token is signed with an algorithm that is not accepted here",
    jwt.InvalidSignatureError: "The token's signature is wrong",
}


def _bad(error: Exception) -> BadTokenError:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return BadTokenError(f"The token lacks the claim `{error.claim}`")
    return BadTokenError(_SENTENCES.get(type(error), "The token cannot be read"))
