"""Every message as a JSON Schema, every topic in AsyncAPI (contract sections 2 and 4), from the code they describe."""

from goalworker.schemas.payloads import of_messages
from goalworker.schemas.topics import asyncapi

__all__ = ["asyncapi", "of_messages"]
