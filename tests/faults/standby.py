"""Standby that lacks the last transactions, and takes over: a copy of an installation's database."""

from tests.faults import faulty_servers
from tests.kit import support, worker_process

_COPY = "standby"


async def copy(servers: faulty_servers.FaultyServers, installation: worker_process.Installation) -> None:
    """Copy the database as it is now."""
    name = _name(installation)
    await support.execute(
        servers.postgres.address,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        f"CREATE DATABASE {name}_{_COPY} TEMPLATE {name}",
    )


async def take_over(servers: faulty_servers.FaultyServers, installation: worker_process.Installation) -> None:
    """Replace the database by the copy, as a failover would."""
    name = _name(installation)
    await support.execute(
        servers.postgres.address,
        f"DROP DATABASE {name} WITH (FORCE)",
        f"ALTER DATABASE {name}_{_COPY} RENAME TO {name}",
    )


def _name(installation: worker_process.Installation) -> str:
    return installation.database_url.rpartition("/")[2]
