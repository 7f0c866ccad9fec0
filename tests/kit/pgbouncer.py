"""PgBouncer, as Debian packages it, before a PostgreSQL of the tests."""

import contextlib
import os
import pwd
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib import parse

from goalworker.embedded import machine, server

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
# What its manual names where clients send startup parameters that it does not know.
REMEDY = "statement_timeout,lock_timeout,idle_in_transaction_session_timeout,default_transaction_isolation"


@contextlib.contextmanager
def running(postgres_url: str, mode: str, *, ignored: str = "") -> Iterator[server.Server]:
    """A PgBouncer whose `address` is a URL of the same superuser, at a database to be named by who takes it."""
    behind = parse.urlsplit(postgres_url)
    with machine.home(None) as home:
        port = machine.free_port()
        account = _account()
        for name, text in {
            "pgbouncer.ini": _configuration(behind, port, mode, ignored),
            "users": f'"{behind.username}" "{behind.password}"\n',
        }.items():
            (home / name).write_text(text)
            _give(home / name, account)
        pooler = server.Server(
            name="PgBouncer",
            address=behind._replace(netloc=f"{behind.username}:{behind.password}@127.0.0.1:{port}").geturl(),
            port=port,
            folder=home,
            command=[PROGRAM or "pgbouncer", str(home / "pgbouncer.ini")],
            ready_mark="process up",
            stop_signal=signal.SIGTERM,
            account=account,
            is_temporary=True,
        )
        with server.running(pooler):
            yield pooler


def _configuration(behind: parse.SplitResult, port: int, mode: str, ignored: str) -> str:
    return f"""\
[databases]
* = host={behind.hostname} port={behind.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = users
pool_mode = {mode}
default_pool_size = {4 if mode == "transaction" else 20}
server_login_retry = 1
{f"ignore_startup_parameters = {ignored}" if ignored else ""}
"""


def _account() -> machine.Account:
    if os.geteuid() != 0:
        return machine.CURRENT_ACCOUNT
    nobody = pwd.getpwnam("nobody")  # PgBouncer refuses to run as root
    return machine.Account(nobody.pw_uid, nobody.pw_gid)


def _give(path: Path, account: machine.Account) -> None:
    path.chmod(0o600)
    if account.uid is not None and account.gid is not None:
        os.chown(path, account.uid, account.gid)
