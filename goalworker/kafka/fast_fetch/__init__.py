"""Faster fetching than aiokafka's own, with the same results.

install() replaces four of aiokafka's classes for the whole process. They subclass aiokafka's and rely on its internals,
so install() replaces them in known versions only. Modules that define them are imported by install() alone: a version
that lacks something they need must not keep a process from starting.
"""

import sys
from types import ModuleType
from typing import Any, Final

import aiokafka

from goalworker import logs

log = logs.get("fast_fetch")

# The tests of the fast path pass with these, and nothing says that they would with others.
AIOKAFKA_VERSIONS: Final = ("0.14.0",)
# asyncio's streams, which aiokafka's connections subclass, are the same in these.
PYTHON_VERSIONS: Final = ((3, 11), (3, 12), (3, 13))


def install(*, for_commands: bool = False) -> bool:
    """Replace aiokafka's fetching in this process; with unknown versions, warn, change nothing and return False.

    A command gets ConsumerRecords, with larger values than the worker, so that it can redrive any dead letter.
    """
    python = sys.version_info[:2]
    if aiokafka.__version__ not in AIOKAFKA_VERSIONS or python not in PYTHON_VERSIONS:
        log.warning(
            "fast_fetch_unavailable",
            aiokafka=aiokafka.__version__,
            python=_dotted(python),
            known_aiokafka=list(AIOKAFKA_VERSIONS),
            known_python=[_dotted(version) for version in PYTHON_VERSIONS],
            problem="aiokafka's own fetching is used: it is slower, the memory that compressed batches take is not "
            "bounded, the error about a batch that cannot be read does not say where it ends, and a log that lost its "
            "end to another leader is not noticed",
            remedy="install one of the known versions",
        )
        return False
    for module, name, replacement in replacements(for_commands=for_commands):
        setattr(module, name, replacement)
    return True


def replacements(*, for_commands: bool = False) -> list[tuple[ModuleType, str, Any]]:
    """Return each class that install() replaces: its module, its name there, and ours."""
    from aiokafka import conn
    from aiokafka.consumer import fetcher

    from goalworker.kafka.fast_fetch import buffered_protocol, parsed_records

    partition_records = parsed_records.CommandPartitionRecords if for_commands else parsed_records.PartitionRecords
    return [
        (conn, "AIOKafkaProtocol", buffered_protocol.ReadAheadProtocol),
        (fetcher, "MemoryRecords", parsed_records.MemoryRecords),
        (fetcher, "PartitionRecords", partition_records),
        (fetcher, "FetchResult", parsed_records.FetchResult),
    ]


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
