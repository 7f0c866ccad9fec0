"""JSON Schemas of all messages and AsyncAPI of all topics, made from the code (contract sections 2 and 4)."""

from goalworker.schemas.payloads import of_messages
from goalworker.schemas.topics import asyncapi

__all__ = ["asyncapi", "of_messages"]
