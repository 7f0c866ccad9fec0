"""The HTTP API (contract section 5)."""

from goalworker.api.application import application, document, live_feed_of

__all__ = ["application", "document", "live_feed_of"]
