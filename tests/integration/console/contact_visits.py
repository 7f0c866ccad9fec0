"""Visits of a contact's page: its search, its address, and the links on it."""

import html
import re
from typing import Any

import httpx

from tests.kit import console

CONTACTS = "/console/contacts"
CONTACT = "customer-4711"


async def search(visitor: httpx.AsyncClient, contact_id: str) -> httpx.Response:
    csrf = console.csrf_of(await visitor.get(CONTACTS))
    return await visitor.post(CONTACTS, data={"contact": contact_id, "csrf": csrf})


async def address_of(visitor: httpx.AsyncClient, contact_id: str = CONTACT) -> str:
    found = await search(visitor, contact_id)
    assert found.status_code == 303, found.text
    return found.headers["location"]


async def page_of(visitor: httpx.AsyncClient, contact_id: str = CONTACT, *, status: int = 200, **query: Any) -> str:
    page = await visitor.get(await address_of(visitor, contact_id), params=query)
    assert page.status_code == status, page.text
    return page.text


def links_of(page: str, words: str) -> list[str]:
    return [html.unescape(href) for href in re.findall(rf'<a[^>]*href="([^"]+)"[^>]*>{words}', page)]
