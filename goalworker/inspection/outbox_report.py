"""Messages that wait to be published: when that is too long, and a sentence about those that a topic refuses."""

from typing import Final

from goalworker.kafka.delivery import TOO_LARGE
from goalworker.pipeline import refused_messages

# Age of the oldest message in the outbox above which doctor and console warn.
AGE_MAX_SECONDS: Final = 60.0


def sentence(held: refused_messages.HeldByTopic, topic: str) -> str:
    """Return how many messages a topic refuses, why, and what to do."""
    of_size = f"{held.smallest_bytes} bytes"
    if held.largest_bytes > held.smallest_bytes:
        of_size = f"{held.smallest_bytes} to {held.largest_bytes} bytes"
    count = "1 message" if held.records == 1 else f"{held.records} messages"
    refusal = f"{topic} refuses {count} of {of_size}: {held.reason}"
    if held.reason == TOO_LARGE:
        limit = "" if held.limit_bytes is None else f", which is {held.limit_bytes}"
        remedy = f"set max.message.bytes of {topic} to at least {held.largest_bytes}"
        return f"{refusal}{limit}; {remedy}, and they are published within {refused_messages.RETRY_SECONDS} s"
    return f"{refusal}; they are published within {refused_messages.RETRY_SECONDS} s after {topic} takes them"
