"""Build the image without an engine: run the Dockerfile's steps in a folder, and its programs as its user."""

import contextlib
import os
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.deploy import dockerfile, tools

FILE: Final = tools.DEPLOY / "Dockerfile"
SYSTEM_PATH: Final = "/usr/bin:/bin"
BUILD_SECONDS: Final = 240
COMMAND_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Image:
    """Built image: `root` is its `/`, `variables` are set by its file, and `user` is a number."""

    root: Path
    variables: Mapping[str, str]
    user: int

    @property
    def program(self) -> str:
        return f"{self.root}/opt/goalworker/bin/goalworker"

    def start(self, *command: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start a command as the image's user, who can write to no file, with exactly these variables."""
        as_user: dict[str, Any] = {"user": self.user, "group": self.user, "extra_groups": ()} if _are_root() else {}
        return subprocess.Popen(
            command,
            cwd="/",
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_write_nothing,  # noqa: PLW1509 - a system call, which takes no lock
            **as_user,
        )

    def done(self, *command: str, env: Mapping[str, str]) -> str:
        """Run a command that must succeed, and return its output."""
        with self.start(*command, env=env) as process:
            out, err = process.communicate(timeout=COMMAND_SECONDS)
        assert process.returncode == 0, f"{command} ended with {process.returncode}: {out}{err}"
        return out


@contextlib.contextmanager
def built() -> Iterator[Image]:
    """Build the image in a folder that everyone may read."""
    build, final = dockerfile.stages(FILE)
    with tempfile.TemporaryDirectory(prefix="goalworker-image-") as made:
        root = Path(made)
        root.chmod(0o755)
        _build(build, root, f"{_python(root)}:{SYSTEM_PATH}")
        _set_writable(root, False)
        try:
            yield Image(root, _variables(final, root), int(dockerfile.only(final, "USER").text.partition(":")[0]))
        finally:
            _set_writable(root, True)


def _build(stage: dockerfile.Stage, root: Path, path: str) -> None:
    folder = root
    for instruction in stage:
        match instruction.word:
            case "FROM":
                continue
            case "WORKDIR":
                folder = root / instruction.text.lstrip("/")
                folder.mkdir(parents=True)
            case "COPY":
                _copy(*instruction.text.split(), folder=folder)
            case "RUN":
                _run(_below(root, instruction.command), folder, path)
            case word:
                raise AssertionError(f"{FILE.name} has a {word} where it builds, which this test cannot do")


def _copy(*words: str, folder: Path) -> None:
    *sources, target = words
    for source in sources:
        if (tools.ROOT / source).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(tools.ROOT / source, folder / target, ignore=ignored, dirs_exist_ok=True)
        else:
            (folder / target).mkdir(parents=True, exist_ok=True)
            shutil.copy(tools.ROOT / source, folder / target)


def _run(command: str, folder: Path, path: str) -> None:
    """Run a step as an engine would, but with this machine's access to the packages."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GOALWORKER_"))}
    step = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=ours | {"PATH": path},
        umask=0o022,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert step.returncode == 0, f"{command}\n{step.stdout}{step.stderr}"


def _below(root: Path, text: str) -> str:
    return text.replace("/opt/", f"{root}/opt/")


def _variables(final: dockerfile.Stage, root: Path) -> dict[str, str]:
    given = dockerfile.only(final, "ENV").pairs
    return {name: _below(root, value).replace("${PATH}", SYSTEM_PATH) for name, value in given.items()}


def _python(root: Path) -> Path:
    """Return the interpreter of this test, as a copy where the image's user cannot reach it."""
    prefix = Path(sys.base_prefix)
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in (prefix, *prefix.parents)):
        return prefix / "bin"
    copy = root / "usr/local"
    ignored = shutil.ignore_patterns("site-packages", "test", "__pycache__", "*.a", "include", "share")
    shutil.copytree(prefix, copy, symlinks=True, ignore=ignored)
    # It looks for its library where it was installed, which is the same place relative to the program.
    program = (copy / "bin" / "python").resolve()
    there, here = str(prefix / "lib").encode() + b"\0", b"$ORIGIN/../lib\0"
    program.write_bytes(program.read_bytes().replace(there, here.ljust(len(there), b"\0")))
    return copy / "bin"


def _set_writable(root: Path, is_writable: bool) -> None:
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | stat.S_IWUSR if is_writable else mode & ~0o222)


def _write_nothing() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _are_root() -> bool:
    return os.geteuid() == 0
