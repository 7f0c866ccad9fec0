"""Create a virtual environment and install pinned packages into it, with progress and advice on failures.

install.py [--editable] FOLDER REQUIREMENTS
"""

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

LINE_SECONDS = 5.0
"""Time between two lines of progress where the output is not a terminal."""

PARALLEL_MAX = 4
"""Runs of pip at once; more of them are slower."""

FAILURES = {
    r"Retrying|Connection|timed out|Temporary failure|Name or service|SSLError|ProxyError": (
        "the package index cannot be reached: check the network and HTTPS_PROXY, or name another index with "
        "PIP_INDEX_URL (and its certificate authority with PIP_CERT)"
    ),
    r"No space left": "the disk is full",
    r"DO NOT MATCH THE HASHES": (
        "a package differs from the pinned one: the index, or a proxy on the way to it, has changed it; name another "
        "index with PIP_INDEX_URL"
    ),
    r"No matching distribution": (
        "the package index lacks a package for this Python and machine: try another Python (3.11 or later) with "
        "make PYTHON=python3.12, or another index with PIP_INDEX_URL"
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--editable", action="store_true")
    parser.add_argument("folder", type=Path)
    parser.add_argument("requirements", type=Path)
    arguments = parser.parse_args()
    python = arguments.folder / "bin" / "python"
    is_new = not _fits(python)
    if is_new:
        shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    pinned = _pinned(arguments.requirements)
    steps = [
        ("packages", [[*_pip(python), "--require-hashes", "-r", part] for part in _parts(pinned, arguments.folder)])
    ]
    if is_new:
        steps.insert(0, ("environment", [[sys.executable, "-m", "venv", str(arguments.folder)]]))
    if arguments.editable:
        steps.append(("goalworker", [[*_pip(python), "--no-build-isolation", "--editable", "."]]))
    return _install(steps, arguments.folder, _Progress(arguments.folder, len(pinned)))


def _fits(python: Path) -> bool:
    """Say whether the environment works and has the Python version of this script."""
    ask = f"import pip, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    return (
        python.exists() and subprocess.run([str(python), "-c", ask], check=False, capture_output=True).returncode == 0
    )


def _pinned(requirements: Path) -> list[str]:
    """Return the requirements, each with its hashes."""
    return re.findall(r"^\S+==.*\n(?:\s.*\n)*", requirements.read_text(), flags=re.MULTILINE)


def _parts(pinned: list[str], folder: Path) -> list[str]:
    """Split the packages into files for several runs of pip, each of which installs one package after the other."""
    number = min(PARALLEL_MAX, os.cpu_count() or 1)
    parts = [folder / f"requirements-{part}.txt" for part in range(number)]
    for index, part in enumerate(parts):
        part.write_text("".join(pinned[index::number]))
    return [str(part) for part in parts]


def _pip(python: Path) -> list[str]:
    """Return the command of pip, without dependencies, since all of them are pinned."""
    words = "-m pip install --no-deps --disable-pip-version-check --no-input --progress-bar off --retries 3"
    return [str(python), *words.split()]


def _install(steps: list[tuple[str, list[list[str]]]], folder: Path, progress: "_Progress") -> int:
    log = folder / "install.log"
    log.write_text("")
    for name, commands in steps:
        progress.begin(name)
        if not _run(commands, log, progress):
            progress.end()
            sys.stderr.write(f"{folder} is incomplete: {_failure(name, log.read_text())}. See the log: {log}.\n")
            return 4
    progress.end(f"{folder} is ready after {progress.seconds:.0f} s")
    return 0


def _run(commands: list[list[str]], log: Path, progress: "_Progress") -> bool:
    """Run commands in parallel; say whether all of them succeeded."""
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for command in commands
    ]
    with log.open("a") as kept:
        for line in _lines(running):
            kept.write(line)
            progress.take(line)
    return not any([process.wait() for process in running])  # noqa: C419 - each has to be waited for


def _lines(running: list[subprocess.Popen[str]]) -> Iterator[str]:
    """Yield each line of output, and an empty one for each second without any."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for process in running:
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    left = len(running)
    while left:
        try:
            line = lines.get(timeout=1)
        except queue.Empty:
            line = ""
        if line is None:
            left -= 1
        else:
            yield line


def _read(running: subprocess.Popen[str], lines: "queue.SimpleQueue[str | None]") -> None:
    for line in running.stdout or ():
        lines.put(line)
    lines.put(None)


def _failure(step: str, output: str) -> str:
    if step == "environment" and "ensurepip" in output:
        return f"{sys.executable} cannot create one without ensurepip: on Debian and Ubuntu, `apt install python3-venv`"
    if step == "environment":
        return f"{sys.executable} cannot create one: {(output.strip() or 'it gave no reason').splitlines()[-1]}"
    for pattern, sentence in FAILURES.items():
        if re.search(pattern, output):
            return sentence
    mistakes = re.findall(r"^ERROR: (.*)", output, flags=re.MULTILINE)
    return f"pip failed: {mistakes[-1] if mistakes else 'it gave no reason'}"


class _Progress:
    """Progress in one line that changes on a terminal, otherwise in a line every few seconds."""

    def __init__(self, folder: Path, total: int) -> None:
        self._folder = folder
        self._total = total
        self._seen = 0
        self._state = ""
        self._began = time.monotonic()
        self._due = self._began
        self._is_live = sys.stdout.isatty()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def begin(self, step: str) -> None:
        self._state = f"starting with the {step}"
        self._show()

    def take(self, line: str) -> None:
        if found := re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)", line):
            self._seen += 1
            self._state = f"fetching {min(self._seen, self._total)} of {self._total} packages, {found[1]}"
        elif line.startswith("Installing collected packages"):
            self._state = f"unpacking, {self._seen} of {self._total} packages are downloaded"
        elif "Retrying" in line:
            self._state = "the package index does not answer, trying again"
        self._show()

    def end(self, text: str = "") -> None:
        if self._is_live:
            sys.stdout.write("\r\x1b[K")
        sys.stdout.write(f"{text}\n" if text else "")
        sys.stdout.flush()

    def _show(self) -> None:
        text = f"installing into {self._folder}: {self._state}, {self.seconds:.0f} s"
        if self._is_live:
            sys.stdout.write(f"\r{text[:79]}\x1b[K")
        elif time.monotonic() >= self._due:
            self._due = time.monotonic() + LINE_SECONDS
            sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
