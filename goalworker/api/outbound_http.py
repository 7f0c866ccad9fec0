"""HTTP requests to other systems, with a limit on the size of the body read."""

import httpx


async def get(client: httpx.AsyncClient, url: str, bytes_max: int) -> tuple[int, bytes | None]:
    """Return the status and the body, or None for a body above the limit; errors are those of httpx.

    The body is read without content encoding: a small compressed body may unpack to a large one.
    """
    async with client.stream("GET", url, headers={"accept-encoding": "identity"}) as response:
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > bytes_max:
                return response.status_code, None
    return response.status_code, bytes(body)
