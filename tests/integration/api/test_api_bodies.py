"""Bodies: what is accepted, and the faults in the answers to others."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from goalworker.api import request_bodies
from goalworker.domain import events
from goalworker.domain.criteria import settings_of
from tests.kit.running_api import FORM, GOALS, TAG, create, pointers, problem

JSON = {"content-type": "application/json"}
PURCHASE = events.GOAL_TYPE_TABLE["purchase_made"]


async def test_the_contracts_sentences_are_the_details(client: httpx.AsyncClient) -> None:
    for empty in ({}, None, {"form_id": None}):
        found = problem(await client.post(GOALS, json={**FORM, "criteria": empty}), 400, "invalid-request")
        assert found["detail"] == "Goal criteria cannot be empty"
        assert found["errors"] == [{"pointer": "/criteria", "detail": "Goal criteria cannot be empty"}]
    for number in range(3):
        await create(client, {**TAG, "criteria": {"tag_id": f"t{number}"}})
    found = problem(await client.post(GOALS, json=FORM), 400, "too-many-goals")
    assert found["detail"] == "Maximum of 3 goals per workflow exceeded"
    (fault,) = found["errors"]
    assert "GOALWORKER_GOALS__MAX_PER_WORKFLOW" in fault["detail"]


async def test_all_faults_of_a_body_are_named_at_once(client: httpx.AsyncClient) -> None:
    given = {
        "goal_type": "purchase_made",
        "criteria": {"min_amount": "ten", "currency": "euro", "product_id": "", "form/id": "f1"},
        "name": "n" * 256,
        "note": "x",
    }
    found = problem(await client.post(GOALS, json=given), 400, "invalid-request")
    assert {error["pointer"]: error["detail"] for error in found["errors"]} == {
        "/note": "`note` is unknown; there are goal_type, criteria, name",
        "/criteria/form~1id": "`form/id` is not a criterion of purchase_made; it takes "
        + ", ".join(["product_id", "min_amount", "currency", "any_purchase", *settings_of(PURCHASE)]),
        "/criteria/product_id": "`product_id` must be text of 1 to 255 bytes without control characters, or a list of "
        '1 to 50 such texts; got ""',
        "/criteria/min_amount": "`min_amount` must be a JSON number or plain decimal string from 0 to 10^15 with at "
        'most 18 decimals, in major units such as 49.90; got "ten"',
        "/criteria/currency": '`currency` must be three ASCII letters, such as EUR; got "euro"',
        "/name": "`name` must be text of 1 to 255 bytes without control characters, or null",
    }
    assert found["detail"] == f"{found['errors'][0]['detail']} (and 5 more, see errors)"


async def test_invalid_goals_and_changes_are_refused(client: httpx.AsyncClient) -> None:
    for given, where in (
        ({}, ["/goal_type"]),
        ({"goal_type": "sale", "criteria": {}}, ["/goal_type"]),
        ({"goal_type": ["tag_added"], "criteria": {}}, ["/goal_type"]),
        ({**TAG, "criteria": "t1"}, ["/criteria"]),
        ({**TAG, "criteria": {"tag_id": 5}}, ["/criteria/tag_id"]),
        ({**TAG, "criteria": {"tag_id": []}}, ["/criteria/tag_id"]),
        ({**TAG, "criteria": {"tag_id": [f"t{number}" for number in range(51)]}}, ["/criteria/tag_id"]),
        ({**TAG, "criteria": {"tag_id": ["t1", 5, ["t2"]]}}, ["/criteria/tag_id/1", "/criteria/tag_id/2"]),
        ({**TAG, "criteria": {"tag_id": "a\u0000b"}}, ["/criteria/tag_id"]),
        ({**TAG, "name": "a\u0000"}, ["/name"]),
        ({**TAG, "a\u0000\ud800": 1}, ["/a\u0000\\ud800"]),
        ({**TAG, "version": 7}, ["/version"]),
    ):
        answer = await client.post(GOALS, content=json.dumps(given), headers=JSON)  # json.dumps escapes surrogates
        assert pointers(problem(answer, 400, "invalid-request")) == where
    address = f"{GOALS}/{(await create(client))['id']}"
    for change, where in (
        ({"is_active": None}, ["/is_active"]),
        ({"is_active": "no"}, ["/is_active"]),
        ({"criteria": None}, ["/criteria"]),
        ({"criteria": {"form_id": "f1"}}, ["/criteria/form_id"]),
        ({"goal_type": "form_submitted", "id": 1}, ["/goal_type", "/id"]),
    ):
        assert pointers(problem(await client.patch(address, json=change), 400, "invalid-request")) == where
    assert (await client.get(address)).json()["version"] == 1


async def test_invalid_json_is_refused_with_a_reason(client: httpx.AsyncClient) -> None:
    digits = b"9" * 5_000
    for body, reason in (
        (b"", "The body is empty"),
        (b"{", "Expecting property name"),
        (b'{"goal_type": NaN}', "NaN is not JSON"),
        (b"-Infinity", "-Infinity is not JSON"),
        (b'{"a": "\xff"}', "it is not UTF-8: byte 7 is wrong"),
        (b"\xef\xbb\xbf{}", "Unexpected UTF-8 BOM"),
        (b'{"a": "\x00"}', "Invalid control character"),
        (b"\x00", "Expecting value"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"a":' * 100_000, "it is nested too deeply"),
        (digits, "a number in it has too many digits"),
        (b'{"min_amount": 1e99999999999999999999}', "a number in it has too many digits"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"{} {}", "Extra data"),
    ):
        found = problem(await client.post(GOALS, content=body, headers=JSON), 400, "invalid-request")
        assert reason in found["detail"]


async def test_numbers_of_any_size_are_read_and_refused_by_their_field(client: httpx.AsyncClient) -> None:
    for number in ("1e400", "-0.1", "1e999999999", "0.1234567890123456789", "9" * 4_000, "true", "[1]"):
        body = f'{{"goal_type": "purchase_made", "criteria": {{"min_amount": {number}}}}}'
        answer = await client.post(GOALS, content=body, headers=JSON)
        assert pointers(problem(answer, 400, "invalid-request")) == ["/criteria/min_amount"]


async def test_a_json_media_type_is_required(client: httpx.AsyncClient) -> None:
    body = b'{"goal_type": "tag_added", "criteria": {"tag_id": "t1"}}'
    for kind in (None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "text/json"):
        answer = await client.post(GOALS, content=body, headers={"content-type": kind} if kind else None)
        problem(answer, 415, "unsupported-media-type")
    address = f"{GOALS}/{(await create(client))['id']}"
    for kind in ("Application/JSON; charset=utf-8", "application/merge-patch+json"):
        answer = await client.patch(address, content=b'{"name": "n"}', headers={"content-type": kind})
        assert answer.status_code == 200


async def test_a_body_of_a_mebibyte_is_read_and_a_larger_one_is_not(client: httpx.AsyncClient) -> None:
    async def in_pieces(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 65_536):
            yield b" " * 65_536

    answer = await client.post(GOALS, content=in_pieces(request_bodies.MAX_BYTES), headers=JSON)
    problem(answer, 400, "invalid-request")
    answer = await client.post(GOALS, content=in_pieces(2 * request_bodies.MAX_BYTES), headers=JSON)
    problem(answer, 413, "body-too-large")
    with contextlib.suppress(httpx.TransportError):  # the connection may be closed before the answer is read
        problem(
            await client.post(GOALS, content=in_pieces(64 * request_bodies.MAX_BYTES), headers=JSON),
            413,
            "body-too-large",
        )
    for path in (GOALS, f"{GOALS}/validate", GOALS.replace("goals", "enrollments")):
        answer = await client.post(path, content=b" " * (request_bodies.MAX_BYTES + 1), headers=JSON)
        problem(answer, 413, "body-too-large", "The body is larger than 1048576 bytes")


async def test_an_announced_huge_body_is_refused_before_it_is_sent(client: httpx.AsyncClient) -> None:
    url = client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    request = [f"POST {GOALS} HTTP/1.1", f"host: {url.host}", f"authorization: {client.headers['authorization']}"]
    request += ["content-type: application/json", "content-length: 99999999999", "", ""]
    writer.write("\r\n".join(request).encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_does_not_arrive_in_time_is_a_408(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = client.base_url
    monkeypatch.setattr(request_bodies, "TIMEOUT_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    request = [f"POST {GOALS} HTTP/1.1", f"host: {url.host}", f"authorization: {client.headers['authorization']}"]
    request += ["content-type: application/json", "content-length: 100", "", "{"]
    writer.write("\r\n".join(request).encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:goalworker:problem:request-timeout" in answer


async def test_a_sane_request_id_is_kept_and_any_other_replaced(client: httpx.AsyncClient) -> None:
    answer = await client.get(GOALS, headers={"x-request-id": "abc-1.2:3"})
    assert answer.headers["x-request-id"] == "abc-1.2:3"
    for given in ("", "a b", "a\tb", "x" * 129, "{}"):
        answer = await client.get("/nowhere", headers={"x-request-id": given})
        assert answer.headers["x-request-id"] != given
        assert len(answer.headers["x-request-id"]) == 32
