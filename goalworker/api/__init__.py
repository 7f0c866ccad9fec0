"""The HTTP API (contract section 5)."""

from goalworker.api.application import application, document

__all__ = ["application", "document"]
