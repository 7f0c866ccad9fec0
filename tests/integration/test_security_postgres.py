"""PostgreSQL with TLS: which parameters of a URL apply, and which errors they give.

The packaged PostgreSQL has no TLS. The server is Debian's, or one in the same place.
"""

import os
import pwd
import signal
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa

from goalworker.embedded import machine, server
from goalworker.postgres import connections
from tests.kit import certificates, shells, support
from tests.kit.shells import Shell

PLACE = Path("/usr/lib/postgresql")
HOST = machine.LOOPBACK
PASSWORD = "pw-7f3a"
SETTINGS = {
    "listen_addresses": f"{HOST},localhost",
    "unix_socket_directories": "",
    "fsync": "off",
    "ssl_cert_file": "server.pem",
    "ssl_key_file": "server.key",
    "ssl_ca_file": "authority.pem",
}
WHO_MAY = """\
hostssl all certified all cert
host all all all scram-sha-256
"""


@pytest.fixture(scope="module")
def programs() -> Path:
    """Folder of the newest server with TLS."""
    found = sorted(PLACE.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip(f"no PostgreSQL server that speaks TLS is in {PLACE} (Debian's package `postgresql` brings one)")
    return found[-1].parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> certificates.Authority:
    return certificates.Authority(folder, "authority")


@pytest.fixture(scope="module")
def port(programs: Path, authority: certificates.Authority) -> Iterator[int]:
    """Port of a server whose certificate is for 127.0.0.1 and not for localhost."""
    with machine.home(None) as home:
        account = machine.CURRENT_ACCOUNT
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            account = machine.Account(nobody.pw_uid, nobody.pw_gid)
        data = home / "data"
        _give(data, account)
        _initialise(programs, data, account)
        issued = authority.issue("server", [HOST])
        for name, content in {
            "server.pem": issued.certificate.read_bytes(),
            "server.key": issued.key.read_bytes(),
            "authority.pem": authority.file.read_bytes(),
            "pg_hba.conf": WHO_MAY.encode(),
        }.items():
            (data / name).touch(mode=0o600)
            (data / name).write_bytes(content)
            os.chown(data / name, account.uid or -1, account.gid or -1)
        chosen = machine.free_port()
        settings = SETTINGS | {"port": str(chosen)}
        running = server.Server(
            name="PostgreSQL",
            address=f"postgresql://postgres:{PASSWORD}@{HOST}:{chosen}/postgres?sslmode=disable",
            port=chosen,
            folder=home,
            command=[
                *(str(programs / "postgres"), "-D", str(data)),
                *(word for key, value in settings.items() for word in ("-c", f"{key}={value}")),
            ],
            ready_mark="database system is ready to accept connections",
            stop_signal=signal.SIGINT,
            account=account,
        )
        with server.running(running):
            support.run(support.execute(running.address, "CREATE ROLE certified LOGIN"))
            support.run(speak_tls(running.address, "on"))
            yield chosen


def _give(folder: Path, account: machine.Account) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, account.uid or -1, account.gid or -1)


def _initialise(programs: Path, data: Path, account: machine.Account) -> None:
    secret = data.with_name("password")
    secret.write_text(PASSWORD)
    words = ["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
    machine.run_once([str(programs / "initdb"), *words, f"--pwfile={secret}", f"--pgdata={data}"], data.parent, account)


async def speak_tls(administrator: str, wanted: str) -> None:
    """Switch TLS, and return once new connections use the setting."""
    await support.execute(administrator, f"ALTER SYSTEM SET ssl = {wanted}", "SELECT pg_reload_conf()")
    found = ""
    while found != wanted:
        connection = await asyncpg.connect(administrator)
        found = await connection.fetchval("SHOW ssl")
        await connection.close()


def url(port: int, *parameters: str, host: str = HOST, user: str = f"postgres:{PASSWORD}") -> str:
    return f"postgresql://{user}@{host}:{port}/postgres?{'&'.join(parameters)}"


async def is_encrypted(url: str) -> bool:
    pool = connections.engine(url, pool_size=1, statement_timeout_seconds=5, application="test")
    try:
        async with pool.connect() as connection:
            asked = await connection.exec_driver_sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            return bool(asked.scalar_one())
    finally:
        await pool.dispose()


async def test_a_url_sets_tls_as_in_psql(port: int, authority: certificates.Authority) -> None:
    assert await is_encrypted(url(port, "sslmode=verify-full", f"sslrootcert={authority.file}"))
    assert await is_encrypted(url(port, "sslmode=require"))
    assert await is_encrypted(url(port))
    assert not await is_encrypted(url(port, "sslmode=disable"))


async def test_a_certificate_is_a_login(port: int, authority: certificates.Authority) -> None:
    client = authority.issue("certified")
    files = (f"sslrootcert={authority.file}", f"sslcert={client.certificate}", f"sslkey={client.key}")
    assert await is_encrypted(url(port, "sslmode=verify-full", *files, user="certified"))
    with pytest.raises(sa.exc.DBAPIError, match="valid client certificate"):
        await is_encrypted(url(port, "sslmode=verify-full", files[0], user="certified"))


def test_commands_connect_by_checked_tls(shell: Shell, port: int, authority: certificates.Authority) -> None:
    checked = url(port, "sslmode=verify-full", f"sslrootcert={authority.file}")
    outcome = shell("db", "current", GOALWORKER_DATABASE__URL=checked)
    assert (outcome.code, outcome.out, outcome.err) == (0, "nothing: it was never migrated\n", "")


def faults(port: int, authority: certificates.Authority, folder: Path) -> dict[str, tuple[str, str]]:
    """Return the URL and the expected sentence by fault."""
    stranger = certificates.Authority(folder, "stranger")
    trusted, full = f"sslrootcert={authority.file}", "sslmode=verify-full"
    return {
        "wrong authority": (url(port, full, f"sslrootcert={stranger.file}"), "is sslrootcert in"),
        "wrong host name": (url(port, full, trusted, host="localhost"), "'localhost'"),
        "wrong password": (url(port, full, trusted, user="postgres:pw-wrong"), "password authentication failed"),
    }


@pytest.mark.parametrize("fault", ["wrong authority", "wrong host name", "wrong password"])
def test_connection_errors_are_a_sentence_and_exit_4(
    fault: str, shell: Shell, port: int, authority: certificates.Authority, folder: Path
) -> None:
    wrong, says = faults(port, authority, folder)[fault]
    shell = shell.set({**shells.NOWHERE, "GOALWORKER_DATABASE__URL": wrong, "GOALWORKER_OPS__PORT": "0"})
    outcome = shell("db", "current")
    shells.assert_one_sentence(outcome, 4)
    assert says.lower() in outcome.err.lower()
    assert "pw-" not in outcome.err
    of_worker = shell("run", GOALWORKER_LOG__FORMAT="json")
    assert (of_worker.code, shells.last_words(of_worker)) == (4, shells.last_words(outcome))


def test_a_server_without_tls_is_refused_where_it_is_required(shell: Shell, port: int) -> None:
    administrator = url(port, "sslmode=disable")
    support.run(speak_tls(administrator, "off"))
    try:
        outcome = shell("db", "current", GOALWORKER_DATABASE__URL=url(port, "sslmode=require"))
    finally:
        support.run(speak_tls(administrator, "on"))
    shells.assert_one_sentence(outcome, 4, "rejected SSL upgrade")


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "sslrootcert=/nowhere/ca.pem"),
        ("sslmode=verify", "`sslmode` parameter must be one of"),
    ],
)
def test_a_wrong_parameter_is_a_wrong_setting(shell: Shell, parameter: str, says: str) -> None:
    outcome = shell("db", "current", GOALWORKER_DATABASE__URL=url(1, parameter))
    shells.assert_one_sentence(outcome, 3, says)
