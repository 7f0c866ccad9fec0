"""Folder of the tests' temporary files."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.kit import temporary_files


@pytest.fixture(autouse=True)
def unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo the choice that was made for this run, after pytest has used it."""
    for name in ("TMPDIR", "PYTEST_DEBUG_TEMPROOT"):
        monkeypatch.setenv(name, "")
        del os.environ[name]
    monkeypatch.setattr(tempfile, "tempdir", "/before")


def test_temporary_files_are_in_memory_and_what_is_kept_is_not(tmp_path: Path) -> None:
    temporary_files.move_to_memory(tmp_path, room_bytes=1)
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(tmp_path)
    assert os.environ["PYTEST_DEBUG_TEMPROOT"] == "/before"


@pytest.mark.parametrize(("folder", "room_bytes"), [(".", 2**62), ("absent", 1)], ids=["no room", "no such folder"])
def test_without_room_in_memory_they_stay_where_they_are(tmp_path: Path, folder: str, room_bytes: int) -> None:
    temporary_files.move_to_memory(tmp_path / folder, room_bytes)
    assert ("TMPDIR" in os.environ, tempfile.gettempdir()) == (False, "/before")


def test_a_folder_of_the_users_choice_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/mine")
    temporary_files.move_to_memory(tmp_path, room_bytes=1)
    assert (os.environ["TMPDIR"], tempfile.gettempdir()) == ("/mine", "/before")
