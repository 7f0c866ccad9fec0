"""Clients that generators make of the OpenAPI document compile strictly and work with a running API."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy import programs, tools
from tests.kit import running_api

pytestmark = pytest.mark.deploy

DOCUMENT: Final = tools.DEPLOY / "schemas" / "openapi.json"
FOUND: Final = {
    "unknown": 404,
    "created": "100.5 EUR",
    "again": "urn:goalworker:problem:duplicate-goal",
    "changed": ["Bought", 2],
    "listed": ["purchase_made", "pipeline_stage_reached"],
    "won": ["sales", ["signed", "won"]],
    "before": "100.5",
    "median": None,
    "deleted": 204,
}


@pytest.mark.real_world("openapi-typescript", "fields with a default of null are required; unions beside properties")
async def test_a_client_of_openapi_typescript_is_strict_and_works(database_url: str, tmp_path: Path) -> None:
    packages = await programs.node_packages()
    node = tools.system_tool("node", "nodejs")
    for name in ("client.ts", "tsconfig.json", "package.json"):
        shutil.copy(programs.CLIENTS / "node" / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(packages)
    await programs.run(
        node, packages / "openapi-typescript/bin/cli.js", DOCUMENT, "--output", "api.ts", within=tmp_path
    )
    await programs.run(node, packages / "typescript/bin/tsc", "--project", ".", within=tmp_path)
    assert await used(database_url, node, "client.js", within=tmp_path) == FOUND


@pytest.mark.real_world("openapi-python-client", "criteria of any type are one class of anything")
async def test_a_client_of_openapi_python_client_works(database_url: str, tmp_path: Path) -> None:
    generator = tools.tool("openapi-python-client")
    (tmp_path / "generator.yaml").write_text("post_hooks: []\n")
    said = await programs.run(
        *(generator, "generate", "--path", DOCUMENT, "--meta", "none", "--config", "generator.yaml"),
        *("--output-path", "goalworker_api", "--fail-on-warning"),
        within=tmp_path,
    )
    assert "WARNING" not in said
    shutil.copy(programs.CLIENTS / "python" / "client.py", tmp_path)
    python = Path(generator).with_name("python")
    assert await used(database_url, python, "client.py", within=tmp_path) == FOUND


@pytest.mark.real_world(
    "oapi-codegen", "criteria beside `anyOf` become fields of raw JSON; amounts lose digits as float32"
)
async def test_a_client_of_oapi_codegen_compiles_and_works(database_url: str, tmp_path: Path) -> None:
    go = programs.go()
    for path in (programs.CLIENTS / "go").iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "api").mkdir()
    generate = ("tool", "oapi-codegen", "-generate", "types,client", "-package", "api", "-o", "api/api.go")
    await programs.run(go, *generate, DOCUMENT, within=tmp_path)
    await programs.run(go, "vet", ".", within=tmp_path)
    await programs.run(go, "build", "-o", "client", ".", within=tmp_path)
    assert await used(database_url, "./client", within=tmp_path) == FOUND


async def used(database_url: str, *command: str | Path, within: Path) -> dict[str, Any]:
    """Run a client with the API's address and a token as its arguments; return its output."""
    async with running_api.running(database_url) as api:
        answer: dict[str, Any] = json.loads(await programs.run(*command, api.url, running_api.token(), within=within))
    return answer
