"""JSON Schemas of all messages and AsyncAPI of all topics, made from the code (contract sections 2 and 4)."""

from goalworker.schemas.payloads import message_schemas
from goalworker.schemas.topics import asyncapi

__all__ = ["asyncapi", "message_schemas"]
