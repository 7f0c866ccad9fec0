"""Jars of Apache Kafka: downloaded once from Maven Central into the user's cache folder, then used offline."""

import dataclasses
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from pathlib import Path

from goalworker import errors
from goalworker.embedded import machine

VERSION = "4.4.0"
# After a change of VERSION `make requirements` writes it anew.
PINNED = Path(__file__).with_name("kafka.sha256")
TIMEOUT_SECONDS = 20
PARALLEL_DOWNLOADS = 8
REPORT_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Bundle:
    """Jars of a program that are fetched together and kept in a folder of this name.

    The file that pins them has one jar a line: SHA-256 and Maven coordinate.
    """

    program: str
    folder: str
    pins: Path
    megabytes: int

    def pinned(self) -> dict[str, str]:
        """Return the SHA-256 of each jar by its Maven coordinate."""
        lines = (line.split() for line in self.pins.read_text().splitlines())
        return {coordinate: digest for digest, coordinate in lines}


def broker() -> Bundle:
    """Return what the embedded broker needs."""
    return Bundle(f"Apache Kafka {VERSION}", f"kafka-{VERSION}", PINNED, 43)


def classpath(report: Callable[[str], None]) -> str:
    """Return the argument of `java -cp` for the broker; the first call on a machine downloads 43 MB."""
    return str(fetched(broker(), report) / "*")


def fetched(bundle: Bundle, report: Callable[[str], None]) -> Path:
    """Return the folder of a bundle's jars; the first call on a machine downloads them."""
    folder = cache_folder() / bundle.folder
    if not folder.is_dir():
        _make(folder.parent)
        try:
            _fetch(bundle, folder, report)
        except (OSError, RuntimeError) as error:  # jgo raises RuntimeError if a file is missing
            raise errors.DependencyError(
                f"Cannot fetch {bundle.program} from Maven Central, which is needed once: check the network, "
                "HTTPS_PROXY, and REQUESTS_CA_BUNDLE if a proxy here has its own certificate authority; or copy "
                f"{folder} from a machine that has it. Cause: {error}"
            ) from error
    return folder


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "goalworker"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.DependencyError(
            f"Cannot write downloads to {folder} ({error.strerror}): set XDG_CACHE_HOME to a writable folder."
        ) from None


def _fetch(bundle: Bundle, folder: Path, report: Callable[[str], None]) -> None:
    report(f"fetching {bundle.program} from Maven Central, {bundle.megabytes} MB, once, into {folder}")
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent) as scratch:
        complete = Path(scratch) / "jars"
        complete.mkdir()
        for jar in _download(bundle.pinned(), Path(scratch) / "repository", report):
            jar.rename(complete / jar.name)
        # Renamed in one step, so that the folder is always complete; another process may have been faster.
        try:
            complete.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _download(expected: Mapping[str, str], repository: Path, report: Callable[[str], None]) -> list[Path]:
    machine.package_folder("jgo")
    from jgo import maven

    context = maven.MavenContext(maven.PythonResolver(), repo_cache=repository, timeout=TIMEOUT_SECONDS)

    def download(coordinate: str, digest: str) -> Path:
        jar: Path = context.create_dependency(coordinate).artifact.resolve()
        if hashlib.sha256(jar.read_bytes()).hexdigest() != digest:
            raise OSError(f"the SHA-256 of {coordinate} differs from the pinned one")
        return jar

    jars: list[Path] = []
    reported_at = time.monotonic()
    with futures.ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        for jar in pool.map(download, expected, expected.values()):
            jars.append(jar)
            if time.monotonic() - reported_at >= REPORT_SECONDS or len(jars) == len(expected):
                reported_at = time.monotonic()
                report(f"fetched {len(jars)} of {len(expected)} files")
    return jars
