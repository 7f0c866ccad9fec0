"""The client in Python does what deploy/CLIENTS.md says of it."""

import contextlib
import sqlite3
import sys
from pathlib import Path

from tests.kit import guide_clients, worker_process


async def test_the_client_in_python_obeys_each_exit_once_also_after_a_restart(
    there: worker_process.Installation,
) -> None:
    folder = there.folder / "client"
    folder.mkdir()
    text = guide_clients.program("python", there)
    command = (sys.executable, "-W", "error")
    await guide_clients.check(
        there, text, folder / "client.py", *command, remembered=lambda: _remembered(folder / "engine.db")
    )


def _remembered(file: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(file)) as database:
        return {id_ for (id_,) in database.execute("SELECT id FROM exits")}
