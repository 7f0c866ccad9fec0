"""Part of `goalworker doctor` in Kafka: brokers, topics and their configuration, rights, senders, hidden records."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import aiokafka
from aiokafka import admin as kafka_admin
from aiokafka import errors as kafka_errors

from goalworker import config
from goalworker.admin import doctor_insight, doctor_senders, findings
from goalworker.inspection import kafka_connection, kafka_topics
from goalworker.kafka import broker_errors, broker_requests
from goalworker.pipeline import topic_limits

READ_TIMEOUT_MS: Final = 1_000
# Seconds since its last write after which an open transaction is a problem; a younger one may still be in use.
OPEN_SECONDS: Final = 60

Configurations = Mapping[str, Mapping[str, str]]


async def examine(settings: config.Settings) -> findings.Findings:
    """Yield the findings about Kafka; DependencyError where no broker answers."""
    async with kafka_connection.admin(settings) as client:
        brokers = (await client.describe_cluster())["brokers"]
        yield findings.ok("broker", f"{settings.bootstrap_servers()} answers; brokers: {len(brokers)}")
        yield await _session(client, settings, brokers[0]["node_id"])
        there = await kafka_topics.topics(client)
        names = kafka_topics.names(settings)
        if absent := [name for name in names if name not in there]:
            yield findings.problem("topics", kafka_topics.missing(absent))
        else:
            yield findings.ok("topics", f"all {len(names)} exist")
        found = await kafka_topics.configuration(client, [name for name in names if name in there])
        for finding in _configuration(settings, found):
            yield finding
        yield await _group(client, settings.kafka.group_id)
        readable = {name: there[name] for name in _read(settings) if name in there}
        kept = {name: topic for name, topic in readable.items() if name != settings.topics.workflow_lifecycle}
        yield await doctor_insight.examine(client, settings, kafka_topics.partitions(kept))
    async for finding in _readable(settings, readable):
        yield finding
        if finding.state is findings.State.OK:
            inputs = {name: topic for name, topic in readable.items() if name != settings.topics.redrive}
            async for sender in doctor_senders.examine(settings, kafka_topics.partitions(inputs)):
                yield sender
    async for finding in _hidden(settings, kafka_topics.partitions(readable)):
        yield finding


def _configuration(
    settings: config.Settings, found: Mapping[str, Mapping[str, str] | None]
) -> Iterable[findings.Finding]:
    hidden = [name for name, configuration in found.items() if configuration is None]
    if hidden:
        yield findings.warn("topics", f"the broker does not show us the configuration of {', '.join(hidden)}")
    shown = {name: configuration for name, configuration in found.items() if configuration is not None}
    rules: tuple[Callable[..., Iterable[findings.Finding]], ...] = (
        _too_small,
        _too_small_out,
        _too_short,
        _compacted,
        _redrive,
        _not_compacted,
    )
    faults = [finding for rule in rules for finding in rule(settings, shown)]
    yield from faults
    if shown and not faults and not hidden:
        are_all = len(shown) == len(kafka_topics.names(settings))
        yield findings.ok("topics", f"the configuration of {'all topics' if are_all else 'the existing topics'} fits")


def _too_small(settings: config.Settings, configurations: Configurations) -> Iterable[findings.Finding]:
    letters = settings.topics.dead_letters
    if letters not in configurations:
        return
    inputs = {
        name: int(configurations[name]["max.message.bytes"]) for name in _read(settings) if name in configurations
    }
    largest, needed = max(inputs.items(), key=lambda item: item[1], default=("", 0))
    limit = int(configurations[letters]["max.message.bytes"])
    if limit < needed:
        yield findings.problem(
            "topics",
            f"{letters} takes messages of {limit} bytes, and {largest}, whose dead letters it takes, of {needed}: "
            f"raise max.message.bytes of {letters} to {max(needed, kafka_topics.DEAD_LETTER_BYTES)}",
        )


def _too_small_out(settings: config.Settings, configurations: Configurations) -> Iterable[findings.Finding]:
    limits = {name: int(configuration["max.message.bytes"]) for name, configuration in configurations.items()}
    for small in topic_limits.too_small(settings, limits):
        yield findings.problem("topics", str(small))


def _too_short(settings: config.Settings, configurations: Configurations) -> Iterable[findings.Finding]:
    lateness_ms = int(settings.events.lateness.total_seconds() * 1000)
    for name in settings.topics.inputs:
        kept_ms = int(configurations.get(name, {}).get("retention.ms", -1))
        if 0 <= kept_ms < lateness_ms:
            yield findings.warn(
                "topics",
                f"{name} is kept for {kept_ms} ms, less than the lateness of {lateness_ms} ms: a longer outage loses "
                "events; raise its retention.ms, or lower GOALWORKER_EVENTS__LATENESS",
            )


def _compacted(settings: config.Settings, configurations: Configurations) -> Iterable[findings.Finding]:
    """Find topics of events that are compacted, which keeps only the last event of each contact."""
    for name in _read(settings):
        if "compact" in configurations.get(name, {}).get("cleanup.policy", "delete"):
            yield findings.problem(
                "topics",
                f"{name} is compacted, which keeps only the last event of each contact: set its cleanup.policy to "
                "delete",
            )


def _redrive(settings: config.Settings, configurations: Configurations) -> Iterable[findings.Finding]:
    """Check the redrive topic, whose records must keep the timestamps of the original ones, however old."""
    name = settings.topics.redrive
    configuration = configurations.get(name, {})
    if configuration.get("message.timestamp.type", "CreateTime") != "CreateTime":
        yield findings.problem(
            "topics",
            f"{name} replaces timestamps, by which events without a time are judged: set its message.timestamp.type "
            "to CreateTime",
        )
    kept_ms = int(configuration.get("retention.ms", -1))
    if kept_ms >= 0:
        yield findings.problem(
            "topics",
            f"{name} is kept for {kept_ms} ms from the original record's timestamp, so that old letters are deleted "
            "before they are read: set its retention.ms to -1",
        )


def _not_compacted(settings: config.Settings, configurations: Configurations) -> Iterable[findings.Finding]:
    name = settings.topics.goal_configured
    if "compact" not in configurations.get(name, {}).get("cleanup.policy", "compact"):
        yield findings.warn(
            "topics",
            f"{name} is not compacted, so that old goals are deleted from it: set its cleanup.policy to compact",
        )


async def _session(
    client: kafka_admin.AIOKafkaAdminClient, settings: config.Settings, node_id: int
) -> findings.Finding:
    """Compare our session timeout with the broker's bounds, outside which a worker cannot join the group."""
    configuration = await kafka_topics.broker_configuration(client, node_id)
    bounds = [int(configuration.get(f"group.{end}.session.timeout.ms", 0)) / 1_000 for end in ("min", "max")]
    ours = settings.kafka.session_timeout_seconds
    if not all(bounds):
        return findings.warn(
            "broker",
            f"it does not show us whether it takes a session timeout of {ours} s: allow DESCRIBE_CONFIGS on it",
        )
    described = f"from {bounds[0]:g} s to {bounds[1]:g} s"
    if bounds[0] <= ours <= bounds[1]:
        return findings.ok("broker", f"it takes session timeouts {described}; ours is {ours} s")
    return findings.problem(
        "broker",
        f"it takes session timeouts {described}, and ours is {ours} s: set GOALWORKER_KAFKA__SESSION_TIMEOUT_SECONDS "
        "to a value between them, or change group.min.session.timeout.ms or group.max.session.timeout.ms",
    )


async def _group(client: kafka_admin.AIOKafkaAdminClient, group: str) -> findings.Finding:
    try:
        await kafka_topics.committed(client, group)
    except kafka_errors.GroupAuthorizationFailedError:
        return findings.problem("rights", f"the group {group} may not be used: allow READ and DESCRIBE on it")
    return findings.ok("rights", f"the group {group} may be described")


async def _readable(settings: config.Settings, there: Iterable[str]) -> findings.Findings:
    """Read at the end of each topic, since only an attempt shows whether reading is allowed."""
    partitions = [aiokafka.TopicPartition(name, 0) for name in there]
    if not partitions:
        return
    async with kafka_connection.consumer(settings) as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        try:
            await consumer.getmany(timeout_ms=READ_TIMEOUT_MS, max_records=1)
        except kafka_errors.TopicAuthorizationFailedError as error:
            yield findings.problem(
                "rights", f"{broker_errors.names_of(error)} may not be read: allow READ and DESCRIBE on it"
            )
            return
    yield findings.ok("rights", f"{len(partitions)} topics may be read")


async def _hidden(settings: config.Settings, partitions: Collection[aiokafka.TopicPartition]) -> findings.Findings:
    """Find open transactions that hide records, which lag does not count."""
    if not partitions:  # a consumer without an assignment cannot be stopped
        return
    async with kafka_connection.consumer(settings) as consumer:
        consumer.assign(partitions)
        # Before the ends, so that records written meanwhile do not look hidden.
        highs = await broker_requests.high_watermarks(consumer, partitions)
        ends = await consumer.end_offsets(partitions)
        hidden = {tp: highs[tp] - ends[tp] for tp in partitions if highs[tp] > ends[tp]}
        for partition, records in hidden.items():
            oldest = min(
                await broker_requests.open_transactions(consumer, partition),
                key=lambda transaction: transaction.start_offset,
                default=None,
            )
            yield _transaction(settings, partition, records, oldest)
    if not hidden:
        yield findings.ok("hidden", "no open transaction hides records of the topics in")


def _transaction(
    settings: config.Settings,
    partition: aiokafka.TopicPartition,
    records: int,
    oldest: broker_requests.OpenTransaction | None,
) -> findings.Finding:
    where = f"{partition.topic}[{partition.partition}]"
    verb = "record is" if records == 1 else "records are"
    if oldest is None:
        return findings.warn(
            "hidden",
            f"{records} {verb} hidden in {where} by an open transaction that the broker does not describe: run "
            f"kafka-transactions.sh --bootstrap-server {settings.bootstrap_servers()} find-hanging --topic "
            f"{partition.topic}",
        )
    seconds = max(time.time() - oldest.last_write_ms / 1000, 0)
    name = f" (transactional id {oldest.transactional_id})" if oldest.transactional_id else ""
    found = findings.problem if seconds >= OPEN_SECONDS else findings.warn
    return found(
        "hidden",
        f"{records} {verb} hidden in {where} by the open transaction of producer {oldest.producer_id}{name}, which "
        f"last wrote there {seconds:.0f} s ago: let that producer end it, or abort it with kafka-transactions.sh "
        f"--bootstrap-server {settings.bootstrap_servers()} abort --topic {partition.topic} --partition "
        f"{partition.partition} --start-offset {oldest.start_offset}",
    )


def _read(settings: config.Settings) -> list[str]:
    return [*settings.topics.inputs, settings.topics.redrive]
