"""Asking other systems over HTTP: however much they answer, so much of it is read and no more."""

import httpx


async def get(client: httpx.AsyncClient, url: str, bytes_max: int) -> tuple[int, bytes | None]:
    """Return the status and the body, None in place of one that is larger; errors are those of httpx.

    The body is taken as it is sent: what is small on the wire may be large once it is unpacked.
    """
    async with client.stream("GET", url, headers={"accept-encoding": "identity"}) as answer:
        body = bytearray()
        async for part in answer.aiter_raw():
            body += part
            if len(body) > bytes_max:
                return answer.status_code, None
    return answer.status_code, bytes(body)
