"""An outage of a minute under load takes at most ten log lines, one of which gives its duration."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final, NamedTuple

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from goalworker import outages
from tests.faults import faulty_servers, outage_logs, rigged, workers
from tests.faults.traffic import Traffic
from tests.kit import clients, worker_process

RUNS: Final = 400
TAG: Final = {"goal_type": "tag_added", "criteria": {"tag_id": "t1"}}
FAILED_MIN: Final = 50
CATCH_UP_SECONDS: Final = 300.0


class Length(NamedTuple):
    """Minimum duration of an outage, the interval of its reminders, and the rig that sets this interval."""

    seconds: float
    remind_seconds: float
    rig: str


LENGTHS: Final = [
    pytest.param(Length(0, rigged.REMIND_SECONDS, "reminding"), id="briefly"),
    pytest.param(Length(60, outages.REMIND_SECONDS, "nothing"), id="for a minute", marks=pytest.mark.fault),
]

pytestmark = pytest.mark.parametrize("length", LENGTHS)


async def test_a_workers_database_outage_is_logged_briefly(
    length: Length, servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "log-database")
        traffic.plan(RUNS)
        async with workers.worker(installation, length.rig) as worker:
            await traffic.send()
            await workers.wait_for_share(traffic, 0.2)
            log = outage_logs.Log.from_now(worker)
            servers.postgres.kill()
            try:
                await _tell_while(traffic, log.said("database_still_away"), length.seconds)
            finally:
                await asyncio.to_thread(servers.postgres.start)
            await log.said("database_back")
            await workers.settle(client, CATCH_UP_SECONDS)
            log.check("database", length.remind_seconds)


async def _tell_while(traffic: Traffic, waiting: Coroutine[Any, Any, None], seconds: float) -> None:
    """Send records for at least this long, and until the awaited line is logged."""
    waited, until = asyncio.create_task(waiting), time.monotonic() + seconds
    while time.monotonic() < until or not waited.done():
        traffic.plan(20)
        await traffic.send()
        await asyncio.sleep(0.1)
    await waited


async def test_a_workers_broker_outage_is_logged_briefly(
    length: Length, servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "log-broker")
        traffic.plan(RUNS * 3)
        await traffic.send()
    async with workers.worker(installation, length.rig, BATCH__MAX_RECORDS=50) as worker:
        async with clients.connect(installation) as client:
            traffic.client = client
            await workers.wait_for_share(traffic, 0.1)
        log = outage_logs.Log.from_now(worker)
        await asyncio.to_thread(servers.kafka.kill)
        try:
            await asyncio.sleep(length.seconds)
            await log.said("broker_still_away")
        finally:
            await asyncio.to_thread(servers.kafka.start)
        await log.said("broker_back")
        async with clients.connect(installation) as client:
            traffic.client = client
            await workers.check(traffic)
        log.check("broker", length.remind_seconds)


async def test_an_apis_database_outage_is_logged_briefly(
    length: Length, servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    async with (
        outage_logs.api(installation, length.rig) as (process, url),
        httpx.AsyncClient(trust_env=False, timeout=20) as client,
    ):

        async def ask() -> int:
            return (await client.get(url)).status_code

        async with outage_logs.load(ask) as load:
            await load.has_seen(200)
            log = outage_logs.Log.from_now(process)
            servers.postgres.kill()
            try:
                await load.has_seen(503, FAILED_MIN)
                await asyncio.sleep(length.seconds)
                await log.said("database_still_away")
            finally:
                await asyncio.to_thread(servers.postgres.start)
            await log.said("database_back")
            await load.has_seen(200)
        log.check("database", length.remind_seconds)


async def test_an_outage_of_the_token_issuer_is_logged_briefly(
    length: Length, installation: worker_process.Installation
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    published = ECAlgorithm.to_jwk(key.public_key())
    claims = {"iss": "issuer", "aud": "audience", "sub": "ann", "tenant_id": "acme", "scope": "goals:read"}
    token = jwt.encode(claims | {"exp": int(time.time()) + 600}, key, "ES256", headers={"kid": "new"})
    keys = f'{{"keys": [{published.removesuffix("}")}, "kid": "new", "alg": "ES256", "use": "sig"}}]}}'.encode()
    with outage_logs.answering({"/keys": keys}) as issuer:
        settings = {"API__JWKS_URL": f"{issuer.url}/keys", "API__JWT_SECRET": None}
        issuer.kill()  # before the API has fetched any key
        async with (
            outage_logs.api(installation, length.rig, **settings) as (process, url),
            httpx.AsyncClient(trust_env=False, timeout=20, headers={"Authorization": f"Bearer {token}"}) as client,
        ):

            async def ask() -> int:
                return (await client.get(url)).status_code

            log = outage_logs.Log.from_now(process)
            async with outage_logs.load(ask) as load:
                await load.has_seen(503, FAILED_MIN)
                await asyncio.sleep(length.seconds)
                await log.said("jwks_still_away")
                issuer.start()
                await log.said("jwks_back")
                await load.has_seen(200)
            log.check("jwks", length.remind_seconds)


async def test_an_outage_of_the_references_system_is_logged_briefly(
    length: Length, installation: worker_process.Installation
) -> None:
    with outage_logs.answering({"/tag/t1": b""}) as crm:
        settings = {"REFERENCES__URL": f"{crm.url}/{{kind}}/{{id}}"}
        async with (
            outage_logs.api(installation, length.rig, **settings) as (process, url),
            httpx.AsyncClient(trust_env=False, timeout=20) as client,
        ):

            async def ask() -> int:
                return (await client.post(f"{url}/validate", json={"goals": [TAG]})).status_code

            async with outage_logs.load(ask) as load:
                await load.has_seen(200)
                crm.kill()
                log = outage_logs.Log.from_now(process)
                await load.has_seen(503, FAILED_MIN)
                await asyncio.sleep(length.seconds)
                await log.said("references_still_away")
                crm.start()
                await log.said("references_back")
                await load.has_seen(200)
            log.check("references", length.remind_seconds)
