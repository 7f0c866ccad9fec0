"""Settings: declared in groups, loaded, shown, and turned into options of Kafka's clients (contract section 6)."""

from goalworker.config.display import Row, masked, sources, sources_in_short, table
from goalworker.config.groups import Topics
from goalworker.config.kafka_client import kafka_client_options
from goalworker.config.loading import PREFIX, load
from goalworker.config.settings import Settings

__all__ = [
    "PREFIX",
    "Row",
    "Settings",
    "Topics",
    "kafka_client_options",
    "load",
    "masked",
    "sources",
    "sources_in_short",
    "table",
]
