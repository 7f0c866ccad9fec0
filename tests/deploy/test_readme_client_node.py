"""The client in Node does what deploy/CLIENTS.md says of it."""

from pathlib import Path

import pytest

from tests.deploy import programs, tools
from tests.kit import guide_clients, worker_process
from tests.kit.forker import Forker

pytestmark = pytest.mark.deploy


async def test_the_client_in_node_obeys_each_exit_once_also_after_a_restart(
    bootstrap_servers: str, postgres_url: str, template_database: str, forker: Forker, tmp_path: Path
) -> None:
    node = tools.system_tool("node", "nodejs")
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "node_modules").symlink_to(await programs.node_packages())
    with worker_process.installation(
        bootstrap_servers, postgres_url, template_database, tmp_path, forker=forker
    ) as installation:
        text = guide_clients.program("js", installation)
        log = tmp_path / "client" / "exits.log"
        await guide_clients.check(
            installation, text, log.with_name("client.mjs"), node, recorded=lambda: log.read_text().splitlines()
        )
