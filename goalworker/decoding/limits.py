"""Limits of the decoder, and the settings that say where an event's tenant and id stand, and which events count."""

from datetime import timedelta
from typing import Literal

from msgspec import Struct


class Limits(Struct, frozen=True):
    """Settings of the decoder: limits of size and time, sources of tenant and id, and which events are skipped."""

    max_bytes: int = 1_048_576
    max_future: timedelta = timedelta(minutes=5)
    default_tenant: str | None = None
    tenant_from: str = "tenantid"
    plain_json: bool = False
    plain_id: str = "id"
    test_events: Literal["ignore", "count"] = "ignore"
    foreign_types: Literal["ignore", "dead_letter"] = "ignore"
    trust_keys: bool = False
