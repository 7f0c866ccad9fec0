"""Programs that check the files of deploy/, and how to find them."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
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


@contextlib.contextmanager
def installing(name: str) -> Iterator[None]:
    """Let one process at a time install something; the others find it installed."""
    with (ROOT / ".venv" / "deploy" / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
