"""Bodies of requests: limits of size and time, media type, and JSON with exact numbers."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from goalworker.api import problems
from goalworker.domain import exact_json, faults

# A larger body is answered with 413.
MAX_BYTES: Final = 1_048_576
# A body that takes longer to arrive is answered with 408.
TIMEOUT_SECONDS: Final = 15
# Bytes of a too large body that are read and discarded, so that the client finishes sending and reads the answer.
_DISCARDED_BYTES_MAX: Final = 8 * MAX_BYTES
_CLOSE: Final = {"Connection": "close"}


async def _required(request: Request) -> Any:
    body = await read(request)
    if not body:
        raise problems.invalid([faults.Fault("", "The body is empty; it must be a JSON object")])
    return _object(request, body)


async def _optional(request: Request) -> Any:
    body = await read(request)
    return _object(request, body) if body else {}


JsonBody = Annotated[Mapping[str, Any], Depends(_required)]
"""The JSON object in the body, numbers as int or Decimal; anything else is a problem."""

OptionalJsonBody = Annotated[Mapping[str, Any], Depends(_optional)]
"""The same, with an empty object for an empty body."""


def _object(request: Request, body: bytes) -> Mapping[str, Any]:
    _check_media_type(request)
    try:
        given = exact_json.decode(body)
    except exact_json.NotJsonError as error:
        raise problems.invalid([faults.Fault("", f"The body is not valid JSON: {error}")]) from None
    if not isinstance(given, Mapping):
        raise problems.invalid([faults.Fault("", "The body must be a JSON object")])
    return given


def _check_media_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise problems.ProblemError(problems.NOT_JSON, "Send JSON with the header `Content-Type: application/json`")


async def read(request: Request) -> bytes:
    """Return the body. A too large one is read on and discarded, since a client that still sends reads no answer."""
    length = request.headers.get("content-length", "")
    announced = int(length[:20]) if length.isdecimal() else 0
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            if announced <= _DISCARDED_BYTES_MAX:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > _DISCARDED_BYTES_MAX:
                        break
                    if size <= MAX_BYTES:
                        body += chunk
    except TimeoutError:
        detail = f"The body did not arrive within {TIMEOUT_SECONDS} s"
        raise problems.ProblemError(problems.TOO_SLOW, detail, headers=_CLOSE) from None
    except ClientDisconnect:
        raise problems.ProblemError(problems.TOO_SLOW, "The client disconnected before its body had arrived") from None
    if max(announced, size) > MAX_BYTES:
        detail = f"The body is larger than {MAX_BYTES} bytes"
        raise problems.ProblemError(problems.TOO_LARGE, detail, headers=_CLOSE)
    return bytes(body)
