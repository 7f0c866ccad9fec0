"""The client in Python does what deploy/CLIENTS.md says of it."""

import contextlib
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.kit import guide_clients, worker_process

pytestmark = pytest.mark.unmeasured


async def test_the_client_in_python_obeys_each_exit_once_also_after_a_restart(
    installation: worker_process.Installation,
) -> None:
    folder = installation.folder / "client"
    folder.mkdir()
    text = guide_clients.program("python", installation)
    command = (sys.executable, "-W", "error")
    await guide_clients.check(
        installation, text, folder / "client.py", *command, recorded=lambda: _remembered(folder / "engine.db")
    )


def _remembered(file: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(file)) as database:
        return {id_ for (id_,) in database.execute("SELECT id FROM exits")}
