"""Quota of the broker: bytes a second that a client may produce, by its client id."""

from typing import Any, Final

from aiokafka.protocol import api, types

from tests.kit import support

_ENTITY: Final = types.Array(("type", types.String("utf-8")), ("name", types.String("utf-8")))


class _Response(api.Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY, API_VERSION = 49, 0
    SCHEMA = types.Schema(
        ("throttle_time_ms", types.Int32),
        (
            "entries",
            types.Array(("error_code", types.Int16), ("error_message", types.String("utf-8")), ("entity", _ENTITY)),
        ),
    )


class _Request(api.RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, FLEXIBLE_VERSION, RESPONSE_TYPE = 49, 0, False, _Response
    _QUOTA = types.Array(("key", types.String("utf-8")), ("value", types.Float64), ("remove", types.Boolean))
    SCHEMA = types.Schema(
        ("entries", types.Array(("entity", _ENTITY), ("quotas", _QUOTA))), ("validate_only", types.Boolean)
    )


class _AlterClientQuotas(api.Request[_Request]):  # type: ignore[misc]
    API_KEY = 49

    def __init__(self, client_id: str, bytes_per_second: int) -> None:
        quotas = [("producer_byte_rate", float(bytes_per_second), False)]
        self._entries = [([("client-id", client_id)], quotas)]

    def build(self, struct: type[_Request]) -> _Request:
        return struct(self._entries, False)


async def limit(bootstrap_servers: str, client_id: str, bytes_per_second: int) -> None:
    """Limit the bytes a second that a client may produce, averaged over its last ten seconds."""
    async with support.admin_client(bootstrap_servers) as admin:
        client: Any = admin._client
        response = await client.send(client.get_random_node(), _AlterClientQuotas(client_id, bytes_per_second))
    assert not any(code for code, *_ in response.entries), response
