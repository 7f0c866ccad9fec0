"""Limits of the decoder, and the settings that say where an event's tenant and id stand."""

from datetime import timedelta

from msgspec import Struct


class Limits(Struct, frozen=True):
    """Settings of the decoder: a record's size, its time ahead of the clock, and sources of tenant and id."""

    max_bytes: int = 1_048_576
    max_future: timedelta = timedelta(minutes=5)
    default_tenant: str | None = None
    tenant_from: str = "tenantid"
    plain_json: bool = False
    plain_id: str = "id"
