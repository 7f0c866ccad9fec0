"""Run programs in other languages that use our interfaces, and install their packages."""

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.deploy import tools

CLIENTS: Final = Path(__file__).parent / "clients"
_NODE: Final = tools.ROOT / ".venv" / "deploy" / "node"
_SECONDS: Final = 300


async def run(*command: str | Path, within: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a program that must succeed, and return its stdout."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=within,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{' '.join(map(str, command))}:\n{out.decode()}{err.decode()}"
    return out.decode()


async def node_packages() -> Path:
    """Return the folder with the packages of clients/node; npm installs them once."""
    npm = tools.system_tool("npm", "npm")
    lock = CLIENTS / "node" / "package-lock.json"
    stamp = _NODE / f"installed-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    with tools.installing("node"):
        if not stamp.exists():
            shutil.rmtree(_NODE, ignore_errors=True)
            _NODE.mkdir(parents=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(CLIENTS / "node" / name, _NODE)
            await run(npm, "ci", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error", within=_NODE)
            stamp.touch()
    return _NODE / "node_modules"


def go() -> str:
    """Return Go, which fetches the modules of clients/go, and a newer Go where they need it."""
    found = shutil.which("go")
    assert found, "go is missing: install Go 1.21 or later from its own pages; Debian's golang-go may be older"
    return found
