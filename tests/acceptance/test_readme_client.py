"""README's client in Python does what README says of it."""

import sys

from tests.acceptance import readme_clients, running


async def test_the_client_in_python_obeys_each_exit_once_also_after_a_restart(there: running.Installation) -> None:
    folder = there.folder / "client"
    folder.mkdir()
    text = readme_clients.program("python", there)
    await readme_clients.check(there, text, folder / "client.py", sys.executable, "-W", "error")
