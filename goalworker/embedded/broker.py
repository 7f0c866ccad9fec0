"""Apache Kafka in KRaft mode: broker and controller in one process, on a Java runtime from a wheel."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from goalworker.embedded import jars, machine, server

CLUSTER_ID = "goalworker-embedded-00"

# A small heap and a quick start matter more here than throughput.
JVM_OPTIONS: tuple[str, ...] = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-XX:-UsePerfData")

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    # A killed broker can register again only after its old session ends, by default 9 s.
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "200",
    "metadata.max.idle.interval.ms": "0",  # no record every half second, which is a fifth of an idle broker's work
    "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),  # allocated at start; 128 MiB by default
}

READY_LOGGER = "kafka.server.KafkaRaftServer"
READY_MARK = "Kafka Server started"

# Warnings, and what the named logger says, with which a program says that it is ready.
LOGGING = """\
status = off
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c)%n%throwable
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.ready.name = {ready}
logger.ready.level = info
"""


@contextlib.contextmanager
def kafka(
    folder: Path | None = None,
    extra_properties: Mapping[str, str] | None = None,
    report: Callable[[str], None] = machine.to_stderr,
    format_options: Sequence[str] = (),
) -> Iterator[server.Server]:
    """Run a broker; its `address` is the bootstrap server. `extra_properties` extend or override server.properties.

    The listener of clients is named BROKER; for SASL, set its protocol in `listener.security.protocol.map`. Create the
    first users with `format_options` of `kafka-storage format`, such as "--add-scram".
    """
    classpath = jars.classpath(report)
    with machine.home(folder) as home:
        port, controller_port = machine.free_port(), machine.free_port()
        _configure(home, port, controller_port, extra_properties or {})
        java = _java(home, classpath)
        if not (home / "data" / "meta.properties").exists():
            tool = [*java, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
            machine.run_once(
                [*tool, "--cluster-id", CLUSTER_ID, "--config", "server.properties", *format_options], home
            )
        broker = server.Server(
            name="Kafka",
            address=f"{machine.LOOPBACK}:{port}",
            port=port,
            folder=home,
            command=[*java, "kafka.Kafka", "server.properties"],
            ready_mark=READY_MARK,
            stop_signal=signal.SIGTERM,
            is_temporary=folder is None,
        )
        with server.running(broker):
            yield broker


def _configure(home: Path, port: int, controller_port: int, extra: Mapping[str, str]) -> None:
    properties = PROPERTIES | {
        "log.dirs": str(home / "data"),
        "listeners": f"BROKER://{machine.LOOPBACK}:{port},CONTROLLER://{machine.LOOPBACK}:{controller_port}",
        "controller.quorum.voters": f"1@{machine.LOOPBACK}:{controller_port}",
        **extra,
    }
    (home / "tmp").mkdir(exist_ok=True)
    (home / "log4j2.properties").write_text(LOGGING.format(ready=READY_LOGGER))
    (home / "server.properties").write_text("".join(f"{key}={value}\n" for key, value in properties.items()))


def _java(home: Path, classpath: str) -> list[str]:
    properties = (f"-Djava.io.tmpdir={home / 'tmp'}", f"-Dlog4j2.configurationFile={home / 'log4j2.properties'}")
    return [str(machine.java()), *JVM_OPTIONS, *properties, "-cp", classpath]
