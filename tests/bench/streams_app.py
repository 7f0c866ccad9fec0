"""Application of Kafka Streams that detects goals (peers/streams): compiled, run, and its tables filled."""

import contextlib
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import aiokafka
import asyncpg
from aiokafka.admin import NewTopic

from goalworker.embedded import broker, jars, machine, server
from tests.bench import drains, load
from tests.kit import support

SOURCE = Path(__file__).parent / "peers" / "streams" / "GoalDetection.java"
JARS = jars.Bundle(
    f"Kafka Streams {jars.VERSION} with RocksDB and a compiler",
    f"streams-{jars.VERSION}",
    SOURCE.with_name("jars.sha256"),
    79,
)
"""Beside the jars of the broker, which has all else that Kafka Streams depends on."""
COMPILER = "org.eclipse.jdt.internal.compiler.batch.Main"
JVM_OPTIONS = ("-Xmx1g", "-XX:-UsePerfData", "--enable-native-access=ALL-UNNAMED")
READY_MARK = "State transition from REBALANCING to RUNNING"
READY_LOGGER = "org.apache.kafka.streams.KafkaStreams"
TABLES_AGO_MS = 3_600_000
"""Records of the tables are so much older than the events, since an application reads the oldest first."""

_ENROLLMENTS = """
SELECT tenant_id || ':' || contact_id, json_build_object('enrollments', json_agg(
    json_build_object('enrollment_id', enrollment_id, 'workflow_id', workflow_id)))::text
FROM enrollments GROUP BY 1
"""
_GOALS = """
SELECT tenant_id || ':' || coalesce(criteria ->> 'tag_id', criteria ->> 'product_id', criteria ->> 'calendar_id',
        criteria ->> 'form_id', criteria ->> 'stage_id'),
    json_build_object('goals', json_agg(json_build_object('goal_id', goal_id, 'workflow_id', workflow_id)))::text
FROM goals JOIN goal_versions USING (tenant_id, goal_id) GROUP BY 1
"""
READ_SECONDS = 60.0


def fetched() -> str:
    """Return the class path of all jars, which are fetched once; raise DependencyError where that fails."""
    folders = [jars.fetched(bundle, machine.to_stderr) for bundle in (jars.broker(), JARS)]
    return ":".join(str(jar) for folder in folders for jar in sorted(folder.glob("*.jar")))


@contextlib.contextmanager
def compiled(needed: str) -> Iterator[Sequence[str]]:
    """Compile the application for the Java runtime of the embedded broker, and yield the words that run it."""
    java = str(machine.java())
    with tempfile.TemporaryDirectory(prefix="goalworker-streams-") as classes:
        options = ["-17", "-nowarn", "-proc:none", "-cp", needed, "-d", classes]
        machine.run_once([java, "-cp", needed, COMPILER, *options, str(SOURCE)], Path(classes))
        yield [java, *JVM_OPTIONS, "-cp", f"{classes}:{needed}"]


@dataclass(frozen=True, slots=True)
class Application:
    """One run of the application, with topics and a consumer group of its own, on the events of a stage."""

    stage: drains.Stage
    name: str

    @property
    def enrollments(self) -> str:
        """Return the topic of the table of enrollments."""
        return f"{self.name}-enrollments"

    @property
    def goals(self) -> str:
        """Return the topic of the global table of goals."""
        return f"{self.name}-goals"

    @property
    def achieved(self) -> str:
        """Return the topic of the achievements."""
        return f"{self.name}-achieved"

    @property
    def exits(self) -> str:
        """Return the topic of the exits."""
        return f"{self.name}-exits"

    @contextlib.contextmanager
    def running(self, java: Sequence[str], configuration: Mapping[str, object]) -> Iterator[server.Server]:
        """Run it with an empty state."""
        with machine.home(None) as home:
            (home / "tmp").mkdir()
            (home / "log4j2.properties").write_text(broker.LOGGING.format(ready=READY_LOGGER))
            properties = self._own(home) | dict(configuration)
            (home / "app.properties").write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
            with server.running(self._server(home, java)) as started:
                yield started

    def _own(self, home: Path) -> dict[str, object]:
        return {
            "application.id": self.name,
            "bootstrap.servers": self.stage.pair.bootstrap_servers,
            "state.dir": home / "state",
        }

    def _server(self, home: Path, java: Sequence[str]) -> server.Server:
        options = [f"-Djava.io.tmpdir={home / 'tmp'}", f"-Dlog4j2.configurationFile={home / 'log4j2.properties'}"]
        topics = [self.enrollments, self.goals, self.achieved, self.exits, *self.stage.inputs]
        return server.Server(
            name="Kafka Streams",
            address=self.name,
            port=machine.free_port(),
            folder=home,
            command=[*java, *options, SOURCE.stem, "app.properties", *topics],
            ready_mark=READY_MARK,
            stop_signal=signal.SIGTERM,
            is_temporary=True,
        )


@contextlib.asynccontextmanager
async def prepared(stage: drains.Stage) -> AsyncIterator[tuple[Application, int]]:
    """Yield an application whose tables hold the facts of the stage's database, and the number of its enrollments.

    Delete its topics afterwards, those that it has made for itself included.
    """
    servers = stage.pair.bootstrap_servers
    app = Application(stage, f"streams-{time.time_ns()}")
    names = (app.enrollments, app.goals, app.achieved, app.exits)
    await support.make_topics(servers, [NewTopic(name, load.PARTITIONS, 1) for name in names])
    try:
        enrollments, goals = await _facts(support.with_database(stage.pair.database_url, stage.database))
        rows = [*(("goals", *goal) for goal in goals), *(("enrollments", *run) for run in enrollments)]
        topics = {"goals": app.goals, "enrollments": app.enrollments}
        before_events = int(time.time() * 1000) - TABLES_AGO_MS
        await load.send_all(servers, topics, rows, load.partition_of, before_events)
        yield app, len(enrollments)
    finally:
        async with support.admin_client(servers) as admin:
            await admin.delete_topics([name for name in await admin.list_topics() if name.startswith(app.name)])


Facts = Sequence[tuple[bytes, bytes]]
"""Keys and values of a table."""


async def _facts(url: str) -> tuple[Facts, Facts]:
    connection = await asyncpg.connect(url)
    try:
        enrollments, goals = [await connection.fetch(query) for query in (_ENROLLMENTS, _GOALS)]
    finally:
        await connection.close()
    return _encoded(enrollments), _encoded(goals)


def _encoded(rows: Sequence[Any]) -> Facts:
    return [(key.encode(), value.encode()) for key, value in rows]


async def check(app: Application) -> None:
    """Assert that the application has told exactly the achievements and exits of the load."""
    mix = app.stage.mix
    wanted = Counter(load.contact_of(number * mix.stride) for number in range(mix.achievements))
    for topic in (app.achieved, app.exits):
        found = Counter(await _contacts(app.stage.pair.bootstrap_servers, topic))
        assert found == wanted, f"{topic}: {difference(found, wanted)}"


def difference(found: Counter[str], wanted: Counter[str]) -> str:
    """Return a sentence about missing results and surplus ones."""
    return f"{(wanted - found).total()} of {wanted.total()} are missing, {(found - wanted).total()} are too many"


async def _contacts(bootstrap_servers: str, topic: str) -> list[str]:
    """Return the contacts of all committed records."""
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        consumer.assign([aiokafka.TopicPartition(topic, number) for number in range(load.PARTITIONS)])
        found: list[str] = []
        deadline = time.monotonic() + READ_SECONDS
        while records := await consumer.getmany(timeout_ms=2_000):
            assert time.monotonic() < deadline, f"{topic}: only {len(found)} records read in {READ_SECONDS} s"
            found += [each.key.partition(b":")[2].decode() for each in chain.from_iterable(records.values())]
        return found
    finally:
        await consumer.stop()
