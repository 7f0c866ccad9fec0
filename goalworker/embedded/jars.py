"""The jars of Apache Kafka: fetched from Maven Central once, kept in the user's cache folder, then used offline."""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

from goalworker import errors
from goalworker.embedded import machine

VERSION = "4.4.0"
# One jar a line: its SHA-256 and its coordinate. `make requirements` writes it for another version.
PINNED = Path(__file__).with_name("kafka.sha256")
TIMEOUT_SECONDS = 20
AT_ONCE = 8
SAY_SECONDS = 1.0


def classpath(say: Callable[[str], None]) -> str:
    """What to give to `java -cp`; the first call on a machine fetches 43 MB."""
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


def pinned() -> dict[str, str]:
    """The SHA-256 of each jar by its coordinate."""
    lines = (line.split() for line in PINNED.read_text().splitlines())
    return {coordinate: digest for digest, coordinate in lines}


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
        for jar in _download(Path(scratch) / "repository", say):
            jar.rename(complete / jar.name)
        # In one step, so that the folder is never there in part; whoever else was quicker has fetched the same.
        try:
            complete.rename(kept)
        except OSError:
            if not kept.is_dir():
                raise


def _download(repository: Path, say: Callable[[str], None]) -> list[Path]:
    machine.package_folder("jgo")
    from jgo import maven

    context = maven.MavenContext(maven.PythonResolver(), repo_cache=repository, timeout=TIMEOUT_SECONDS)

    def download(coordinate: str, digest: str) -> Path:
        jar: Path = context.create_dependency(coordinate).artifact.resolve()
        if hashlib.sha256(jar.read_bytes()).hexdigest() != digest:
            raise OSError(f"{coordinate} is not what is pinned: its SHA-256 differs")
        return jar

    jars: list[Path] = []
    wanted = pinned()
    said_at = time.monotonic()
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for jar in pool.map(download, wanted, wanted.values()):
            jars.append(jar)
            if time.monotonic() - said_at >= SAY_SECONDS or len(jars) == len(wanted):
                said_at = time.monotonic()
                say(f"fetched {len(jars)} of {len(wanted)} files")
    return jars
