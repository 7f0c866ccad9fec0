"""Programs that check the files of deploy/, and how to find them."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def tool(name: str) -> str:
    """Return a program from requirements/deploy.txt, which `make check-deploy` installs."""
    found = shutil.which(name, path=ROOT / ".venv" / "deploy" / "bin")
    assert found, f"{name} is missing: run the tests of deploy/ with `make check-deploy`, which installs it"
    return found


def system_tool(name: str, package: str) -> str:
    """Return a program that must be installed on the machine."""
    found = shutil.which(name)
    assert found, f"{name} is missing: install it, on Debian with `apt-get install {package}`"
    return found
