"""Dead letters of a contact over HTTP: searched when somebody asks, and only those certainly of the own tenant."""

import re
from collections.abc import AsyncIterator, Mapping

import aiokafka
import httpx
import pytest

from goalworker.pipeline import dead_letters
from tests.kit import console, running_api, shells
from tests.kit.running_api import OTHER, TENANT

CONTACTS = "/console/contacts"
CONTACT = "customer-4711"
PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial"}


@pytest.fixture
async def ours(
    database_url: str, bootstrap_servers: str, topics: Mapping[str, str]
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of a console that has a broker."""
    variables = {**running_api.TOKENS, **shells.variables_of(bootstrap_servers, topics)}
    async with console.running(database_url, variables) as api, console.logged_in(api) as client:
        yield client


async def _address(client: httpx.AsyncClient) -> str:
    found = await client.get(CONTACTS, params={"contact_id": CONTACT})
    return f"{found.headers['location']}/dead-letters"


async def _send(bootstrap_servers: str, topics: Mapping[str, str], *letters: tuple[bytes | None, bytes]) -> None:
    async with shells.producing(bootstrap_servers) as producer:
        for key, value in letters:
            record = aiokafka.ConsumerRecord(
                topics["tag_added"], 1, 7, 1_700_000_000_000, 0, key, value, None, 0, len(value), ()
            )
            letter = dead_letters.DeadLetter(record, "invalid_data", "/data/tag_id: is missing")
            made = dead_letters.record_of(letter, topics["dead_letters"], "goalworker", redriven=False)
            await producer.send_and_wait(made.topic, made.value, key=made.key, partition=0, headers=list(made.headers))


async def test_letters_are_the_contacts_where_their_key_or_value_names_it_and_the_tenant(
    ours: httpx.AsyncClient, bootstrap_servers: str, topics: Mapping[str, str]
) -> None:
    named = '{"specversion": "1.0", "tenantid": "%s", "data": {"contact_id": "%s"}}'
    await _send(
        bootstrap_servers,
        topics,
        (f"{TENANT}:{CONTACT}".encode(), b"nonsense"),
        (f"{TENANT}:another".encode(), b"nonsense"),
        (None, (named % (TENANT, CONTACT)).encode()),
        (None, (named % (OTHER, CONTACT)).encode()),
        (f"{TENANT}:{CONTACT}".encode(), (named % (OTHER, CONTACT)).encode()),  # whose, nobody can say
    )
    page = await ours.get(await _address(ours), headers=PARTIAL)
    assert page.status_code == 200
    assert re.findall(r'href="(/console/health/dead-letters/[0-9/]+)"', page.text) == [
        "/console/health/dead-letters/0/0",
        "/console/health/dead-letters/0/2",
    ]
    assert f'<strong class="bad">invalid_data</strong> from <bdi>{topics["tag_added"]}</bdi>' in page.text
    for address in re.findall(r'href="(/console/health/dead-letters/[0-9/]+)"', page.text):
        assert (await ours.get(address)).status_code == 200


async def test_where_nothing_was_found_the_answer_says_how_far_it_looked(ours: httpx.AsyncClient) -> None:
    page = await ours.get(await _address(ours))
    assert "<html" in page.text
    assert "none of the newest 50,000 dead letters" in page.text
    assert CONTACT not in page.text


async def test_without_a_broker_the_page_says_so_and_is_there(client: httpx.AsyncClient) -> None:
    page = await client.get(await _address(client), headers=PARTIAL)
    assert page.status_code == 200
    assert "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS" in page.text


async def test_the_contacts_page_links_to_the_search_and_asks_for_nothing_itself(client: httpx.AsyncClient) -> None:
    address = await _address(client)
    page = await client.get(address.removesuffix("/dead-letters"))
    assert page.status_code == 404  # of an unknown contact, dead letters may be all there is
    assert re.search(rf'href="{address}" hx-get="{address}"', page.text)
