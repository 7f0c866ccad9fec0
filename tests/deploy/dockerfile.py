"""Parser for our Dockerfile, so that tests run its own steps instead of copies of them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    word: str
    text: str

    @property
    def command(self) -> str:
        """Return the command of a RUN without its mounts."""
        return re.sub(r"^(--mount=\S+\s+)+", "", self.text)

    @property
    def pairs(self) -> dict[str, str]:
        """Return the names and values of an ENV or LABEL."""
        return dict(word.split("=", 1) for word in shlex.split(self.text))


Stage = list[Instruction]


def stages(file: Path) -> list[Stage]:
    """Return the instructions of each stage, which begins with its FROM; those before the first are left out."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    logical = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    found: list[Stage] = []
    for instruction in (Instruction(*line.split(maxsplit=1)) for line in logical if line):
        if instruction.word == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def only(stage: Stage, word: str) -> Instruction:
    """Return the only instruction of a stage that begins with a word."""
    (found,) = [instruction for instruction in stage if instruction.word == word]
    return found


def copied(stage: Stage) -> list[str]:
    """Return the paths that a stage copies from the repository."""
    copies = [each.text.split() for each in stage if each.word == "COPY" and not each.text.startswith("--from=")]
    return [source for *sources, _target in copies for source in sources]
