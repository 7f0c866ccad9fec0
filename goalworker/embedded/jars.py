"""The jars of Apache Kafka: fetched from Maven Central once, kept in the user's cache folder, then used offline."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

from goalworker import errors
from goalworker.embedded import machine

VERSION = "4.4.0"
BROKER = f"org.apache.kafka:kafka_2.13:{VERSION}"
# Without this one the broker's log is silent. It is added to what the broker depends on rather than resolved with it:
# jgo would let it decide the versions of what both need.
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"
TIMEOUT_SECONDS = 20
AT_ONCE = 8
SAY_SECONDS = 1.0
COUNT_SECONDS = 3.0


def classpath(say: Callable[[str], None]) -> str:
    """What to give to `java -cp`; the first call on a machine takes some 20 seconds and 43 MB."""
    kept = cache_folder() / f"kafka-{VERSION}"
    if not kept.is_dir():
        _make(kept.parent)
        try:
            _fetch(kept, say)
        except (OSError, RuntimeError) as error:  # RuntimeError is how jgo says that a file is not there
            raise errors.DependencyError(
                f"Cannot fetch Apache Kafka {VERSION} from Maven Central, which is needed once: check the network, "
                "HTTPS_PROXY, and REQUESTS_CA_BUNDLE if a proxy here has a certificate authority of its own; or copy "
                f"{kept} from a machine that has it. The cause: {error}"
            ) from error
    return str(kept / "*")


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "goalworker"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.DependencyError(
            f"Cannot keep what is fetched in {folder} ({error.strerror}): set XDG_CACHE_HOME to a folder that can be "
            "written to."
        ) from None


def _fetch(kept: Path, say: Callable[[str], None]) -> None:
    say(f"fetching Apache Kafka {VERSION} from Maven Central, 43 MB, once, into {kept}")
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=kept.parent) as scratch:
        complete = Path(scratch) / "jars"
        complete.mkdir()
        for jar in _resolve(Path(scratch) / "repository", say):
            jar.rename(complete / jar.name)
        # In one step, so that the folder is never there in part; whoever else was quicker has fetched the same.
        try:
            complete.rename(kept)
        except OSError:
            if not kept.is_dir():
                raise


def _resolve(repository: Path, say: Callable[[str], None]) -> list[Path]:
    machine.package_folder("jgo")
    from jgo import maven

    context = maven.MavenContext(maven.PythonResolver(), repo_cache=repository, timeout=TIMEOUT_SECONDS)
    with _counted(repository, say):
        wanted, needed = context.resolver.resolve([context.create_dependency(BROKER)])
    artifacts = [each.artifact for each in (*wanted, *needed, context.create_dependency(LOGGING))]
    jars: list[Path] = []
    said_at = time.monotonic()
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for jar in pool.map(lambda artifact: artifact.resolve(), artifacts):
            jars.append(jar)
            if time.monotonic() - said_at >= SAY_SECONDS or len(jars) == len(artifacts):
                said_at = time.monotonic()
                say(f"fetched {len(jars)} of {len(artifacts)} files")
    return jars


@contextlib.contextmanager
def _counted(repository: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Report every few seconds how many package descriptions have been read; nobody knows how many there will be."""
    is_over = threading.Event()

    def count() -> None:
        while not is_over.wait(COUNT_SECONDS):
            descriptions = sum(1 for _ in repository.rglob("*.pom"))
            say(f"reading what Apache Kafka {VERSION} needs: {descriptions} descriptions so far")

    counting = threading.Thread(target=count, daemon=True)
    counting.start()
    try:
        yield
    finally:
        is_over.set()
        counting.join()
