"""The decoder of the topics in, as the settings want it: the worker's, and that of commands that decode as it would."""

from datetime import timedelta

from goalworker import config
from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.domain.cells import Cell


def event_decoder(settings: config.Settings) -> Decoder:
    """Return a decoder of the topics in, for the buckets of this cell."""
    events = settings.events
    limits = Limits(
        max_bytes=events.max_bytes,
        max_future=timedelta(seconds=events.max_future_seconds),
        default_tenant=events.default_tenant,
        tenant_from=events.tenant_from,
        plain_json=events.plain_json,
        plain_id=events.plain_id,
        test_events=events.test_events,
        foreign_types=events.foreign_types,
        trust_keys=settings.cell.trust_keys,
    )
    return Decoder(settings.topics.event_types, limits, Cell(settings.cell.buckets))
