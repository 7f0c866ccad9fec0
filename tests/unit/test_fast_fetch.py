"""The fast path is installed where the versions are known, and otherwise aiokafka stays as it is."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import aiokafka
import pytest
from structlog import testing

from goalworker.kafka import fast_fetch

REPOSITORY = Path(__file__).parents[2]
IMPORT_ALL = """
import importlib, pkgutil
from aiokafka import client, conn
from aiokafka.consumer import fetcher
names = ("MemoryRecords", "PartitionRecords", "FetchResult")
def found():
    return [conn.AIOKafkaProtocol, client.create_conn, *(getattr(fetcher, name) for name in names)]
before = found()
import goalworker
for module in pkgutil.walk_packages(goalworker.__path__, "goalworker."):
    if not module.name.endswith("__main__") and ".migrations" not in module.name:
        importlib.import_module(module.name)
assert found() == before
"""


def _installed() -> list[bool]:
    return [getattr(module, name) is replacement for module, name, replacement in fast_fetch.replacements()]


def test_importing_the_package_leaves_aiokafka_alone() -> None:
    subprocess.run([sys.executable, "-c", IMPORT_ALL], check=True, timeout=60, cwd=REPOSITORY)


@pytest.mark.usefixtures("fast_fetching")
def test_known_versions_get_the_fast_path() -> None:
    assert _installed() == [True] * 4


@pytest.mark.parametrize(("aiokafka_version", "python"), [("0.14.99", None), (None, (3, 99, 0))])
def test_other_versions_keep_their_own_fetching_and_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, aiokafka_version: str | None, python: tuple[int, ...] | None
) -> None:
    monkeypatch.setattr(aiokafka, "__version__", aiokafka_version or aiokafka.__version__)
    monkeypatch.setattr(sys, "version_info", python or sys.version_info)
    with testing.capture_logs() as lines:
        assert not fast_fetch.install()
    assert _installed() == [False] * 4
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("fast_fetch_unavailable", "warning")
    assert line["aiokafka"] == (aiokafka_version or aiokafka.__version__)
    assert line["python"] == ("3.99" if python else "{}.{}".format(*sys.version_info))
    assert line["known_aiokafka"] == list(fast_fetch.AIOKAFKA_VERSIONS)
    assert "memory" in line["problem"]


def test_what_is_installed_with_the_package_is_known() -> None:
    pinned = re.search(r"^aiokafka==(\S+)", (REPOSITORY / "requirements" / "run.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert pinned[1] in fast_fetch.AIOKAFKA_VERSIONS
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    versions = [found[1] for text in project["classifiers"] if (found := re.search(r":: Python :: (3\.\d+)$", text))]
    assert versions == [".".join(map(str, version)) for version in fast_fetch.PYTHON_VERSIONS]
