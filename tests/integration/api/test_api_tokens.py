"""Tokens: accepted ones, forged ones, and the keys of an issuer."""

import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from goalworker.api import jwks
from tests.kit import running_api
from tests.kit.running_api import AUDIENCE, GOALS, ISSUER, SECRET, claims, problem, token

RSA_KEY = rsa.generate_private_key(65_537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
STRANGERS_KEY = rsa.generate_private_key(65_537, 2048)


async def ask(api: running_api.Api, given: str) -> httpx.Response:
    async with api.client(Authorization=f"Bearer {given}") as client:
        return await client.get(GOALS)


async def refused(api: running_api.Api, given: str, detail: str | None = None) -> None:
    answer = await ask(api, given)
    problem(answer, 401, "unauthenticated", detail)
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


# --- a secret ---


async def test_a_good_token_is_accepted(api: running_api.Api) -> None:
    for good in (
        token(),
        token(aud=["x", AUDIENCE]),
        token(exp=time.time() - 20),
        token(scope="goals:read"),
        token(iat=int(time.time()), nbf=int(time.time())),
    ):
        assert (await ask(api, good)).status_code == 200


async def test_claims_are_checked(api: running_api.Api) -> None:
    rule = "must be text of 1 to 255 bytes without control characters"
    cases: list[tuple[dict[str, object], str]] = [
        ({"exp": time.time() - 60}, "The token has expired"),
        ({"exp": "soon"}, "The token cannot be read"),
        ({"exp": 1e400}, "The token cannot be read"),
        ({"nbf": time.time() + 600}, "The token is not valid yet"),
        ({"aud": "another"}, "The token is for another audience"),
        ({"aud": [1]}, "The token is for another audience"),
        ({"iss": "https://evil.example.com/"}, "The token is from another issuer"),
        ({"tenant_id": 7}, f"The token's `tenant_id` {rule}"),
        ({"tenant_id": ""}, f"The token's `tenant_id` {rule}"),
        ({"sub": "a\u0000b"}, f"The token's `sub` {rule}"),
        ({"scope": ["goals:read"]}, "The token's `scope` must be text: scopes separated by spaces"),
    ]
    for claim in ("exp", "iss", "aud", "sub", "tenant_id"):
        cases.append(({claim: None}, f"The token lacks the claim `{claim}`"))
    for changed, detail in cases:
        await refused(api, token(**changed), detail)


async def test_tokens_forged_without_the_secret_are_refused(api: running_api.Api) -> None:
    body = segment(claims())
    none = f"{segment({'alg': 'none', 'typ': 'JWT'})}.{body}."
    for forged in (
        none,
        none.replace(segment({"alg": "none", "typ": "JWT"}), segment({"alg": "NONE"})),
        f"{none}AAAA",
        f"{segment({'alg': 'HS256'})}.{body}.",
        f"{segment({'alg': 'HS256'})}.{body}.{segment('x')}",
        jwt.encode(claims(), "another secret of thirty-two bytes or more", "HS256"),
        jwt.encode(claims(), SECRET * 2, "HS512"),
        jwt.encode(claims(), RSA_KEY, "RS256"),
        f"{token().rpartition('.')[0]}.{token(sub='x').rpartition('.')[2]}",
        ".".join([token().split(".")[0], segment(claims(tenant_id="other")), token().split(".")[2]]),
    ):
        await refused(api, forged)


async def test_malformed_tokens_are_refused(api: running_api.Api) -> None:
    deep = base64.urlsafe_b64encode(b"[" * 5_000).decode()
    for nonsense in ("x", "a.b", "a.b.c", "...", f"{deep}.e30.AAAA", f"{segment(['HS256'])}.e30.AAAA"):
        await refused(api, nonsense, "The token cannot be read")
    await refused(api, f"{segment({'alg': ['HS256']})}.e30.AAAA")
    await refused(api, f"{segment({'alg': 'HS256', 'crit': ['x']})}.e30.AAAA")
    await refused(api, "x" * 20_000, "The token is longer than 8192 bytes")


async def test_a_request_without_credentials_is_told_which_to_send(api: running_api.Api) -> None:
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}, {"Authorization": ""}):
        async with api.client(**headers) as client:
            answer = await client.get(GOALS)
        detail = "Send `Authorization: Bearer <token>` or `X-API-Key: <key>`"
        problem(answer, 401, "unauthenticated", detail)
        assert answer.headers["www-authenticate"] == "Bearer"


# --- keys by URL ---


@dataclass(slots=True)
class Issuer:
    """An issuer of tokens, and its answers to requests for its keys."""

    keys: list[dict[str, Any]] = field(default_factory=list)
    answer: Response | None = None
    asked: int = 0

    async def serve(self, _request: Request) -> Response:
        self.asked += 1
        return self.answer or JSONResponse({"keys": self.keys})


def public(key: Any, key_id: str | None, **more: object) -> dict[str, Any]:
    algorithm = jwt.get_algorithm_by_name("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
    found: dict[str, Any] = algorithm.to_jwk(key.public_key(), as_dict=True)
    return found | ({"kid": key_id} if key_id else {}) | more


def signed(key: Any, algorithm: str, key_id: str | None, **changed: object) -> str:
    return jwt.encode(claims(**changed), key, algorithm, headers={"kid": key_id} if key_id else None)


@dataclass(slots=True)
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Issuer:
    return Issuer([public(RSA_KEY, "r"), public(EC_KEY, "e", use="sig", alg="ES256")])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(jwks.Jwks.__init__, "__defaults__", (clock,))
    return clock


@pytest.fixture
async def by_keys(database_url: str, issuer: Issuer, clock: Clock) -> AsyncIterator[running_api.Api]:
    async with running_api.serve(Starlette(routes=[Route("/keys", issuer.serve)])) as url:
        variables = {
            "GOALWORKER_API__JWKS_URL": f"{url}/keys",
            "GOALWORKER_API__JWT_ISSUER": ISSUER,
            "GOALWORKER_API__JWT_AUDIENCE": AUDIENCE,
        }
        async with running_api.running(database_url, variables) as api:
            yield api


async def test_both_algorithms_are_accepted_after_one_fetch_of_the_keys(
    by_keys: running_api.Api, issuer: Issuer
) -> None:
    for good in (signed(RSA_KEY, "RS256", "r"), signed(EC_KEY, "ES256", "e")) * 2:
        assert (await ask(by_keys, good)).status_code == 200
    assert issuer.asked == 1


async def test_a_token_signed_with_the_public_key_is_refused(by_keys: running_api.Api, issuer: Issuer) -> None:
    pem = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    body = f"{segment({'alg': 'HS256', 'kid': 'r'})}.{segment(claims())}"
    signature = jwt.get_algorithm_by_name("HS256").sign(body.encode(), pem)
    await refused(by_keys, f"{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}")
    assert issuer.asked == 0


async def test_tokens_forged_without_the_private_key_are_refused(by_keys: running_api.Api) -> None:
    for forged in (
        signed(STRANGERS_KEY, "RS256", "r"),
        signed(RSA_KEY, "RS256", "e"),
        signed(EC_KEY, "ES256", "r"),
        signed(RSA_KEY, "PS256", "r"),
        signed(RSA_KEY, "RS512", "r"),
        f"{segment({'alg': 'none', 'kid': 'r'})}.{segment(claims())}.",
        token(),
        signed(RSA_KEY, "RS256", "r", exp=time.time() - 60),
        signed(RSA_KEY, "RS256", "r", aud="x"),
        # Keys in a token's own header are not trusted.
        jwt.encode(
            claims(),
            STRANGERS_KEY,
            "RS256",
            headers={"jwk": public(STRANGERS_KEY, "s"), "jku": "http://x/", "kid": "s"},
        ),
    ):
        await refused(by_keys, forged)


async def test_an_unknown_key_causes_a_fetch_at_most_every_ten_seconds(
    by_keys: running_api.Api, issuer: Issuer, clock: Clock
) -> None:
    new = signed(STRANGERS_KEY, "RS256", "new")
    for _ in range(5):
        await refused(by_keys, new, "The token is signed with an unknown key")
    assert issuer.asked == 1
    issuer.keys.append(public(STRANGERS_KEY, "new"))
    clock.now += 9
    await refused(by_keys, new)
    clock.now += 1
    assert (await ask(by_keys, new)).status_code == 200
    assert issuer.asked == 2


async def test_a_withdrawn_key_is_no_longer_trusted_after_five_minutes(
    by_keys: running_api.Api, issuer: Issuer, clock: Clock
) -> None:
    old = signed(RSA_KEY, "RS256", "r")
    assert (await ask(by_keys, old)).status_code == 200
    del issuer.keys[0]
    clock.now += jwks.CACHE_SECONDS - 1
    assert (await ask(by_keys, old)).status_code == 200
    clock.now += 1
    await refused(by_keys, old)


async def test_cached_keys_are_used_while_the_issuer_is_away_and_unknown_ones_are_503(
    by_keys: running_api.Api, issuer: Issuer, clock: Clock
) -> None:
    good, new = signed(RSA_KEY, "RS256", "r"), signed(STRANGERS_KEY, "RS256", "new")
    for away in (
        Response(status_code=500),
        Response(b"[" * 100_000),
        Response(b"no json"),
        JSONResponse([]),
        JSONResponse({"keys": 1}),
    ):
        issuer.answer = away
        answer = await ask(by_keys, good)
        problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "2"
        clock.now += jwks.REFETCH_SECONDS
    issuer.answer = None
    assert (await ask(by_keys, good)).status_code == 200
    issuer.answer = away
    clock.now += jwks.CACHE_SECONDS
    assert (await ask(by_keys, good)).status_code == 200
    problem(await ask(by_keys, new), 503, "unavailable")


async def test_keys_for_other_uses_are_ignored(by_keys: running_api.Api, issuer: Issuer) -> None:
    issuer.keys = [
        {"kty": "oct", "kid": "o", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "broken"},
        {"kid": "r"},
        7,  # type: ignore[list-item]
        public(RSA_KEY, "r", use="enc"),
        public(EC_KEY, None),
    ]
    await refused(by_keys, signed(RSA_KEY, "RS256", "r"))
    assert (await ask(by_keys, signed(EC_KEY, "ES256", None))).status_code == 200
