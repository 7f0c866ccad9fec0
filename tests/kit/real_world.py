"""Table of tests/README.md, made from the tests' `real_world` markers: `python -m tests.kit.real_world` writes it.

The test files are parsed, not imported, so no server and no installed package is needed.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1]
README = TESTS / "README.md"
MARKER = "real_world"
BEGIN, END = "<!-- real world: made by `make real-world-table` -->\n", "<!-- end of real world -->\n"
REMEDY = (
    "tests/README.md does not list the tests' real_world markers as they are now: run `make real-world-table`"
    " (the same as `python -m tests.kit.real_world`) and commit tests/README.md"
)


class Case(NamedTuple):
    """Marker: the software that was tried, the case, and the test that replays it."""

    source: str
    case: str
    test: str


def cases(folder: Path = TESTS) -> list[Case]:
    """Return every marker of the test files below a folder, by source, case and test."""
    found = {case for file in folder.rglob("test_*.py") for case in _cases_of(file, file.relative_to(folder))}
    return sorted(found, key=lambda case: (case.source.casefold(), case))


def table(found: Iterable[Case]) -> str:
    """Return the cases as a Markdown table."""
    rows = [(case.source, case.case, f"`{case.test}`") for case in found]
    lines = [("tried with", "case", "test"), ("---", "---", "---"), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def placed(text: str, found: Iterable[Case]) -> str:
    """Return the README with the table between its two comments."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{README} lacks the lines\n{BEGIN}{END}that the table goes between")
    return before + begin + table(found) + end + after


def main() -> int:
    """Write the table into tests/README.md."""
    found = cases()
    README.write_text(placed(README.read_text(), found))
    sys.stderr.write(f"{len(found)} cases are in {README}\n")
    return 0


def _cases_of(file: Path, shown: Path) -> Iterator[Case]:
    tree = ast.parse(file.read_text(), str(file))
    for node, test in _tests(tree, str(shown)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == MARKER:
            yield Case(*_texts(node, file), test)


def _tests(node: ast.AST, test: str) -> Iterator[tuple[ast.AST, str]]:
    """Yield every node below this one with the test that contains it; outside of tests that is the file."""
    for child in ast.iter_child_nodes(node):
        inner = test
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and child.name.startswith("test_"):
            inner = f"{test}::{child.name}"
        yield child, inner
        yield from _tests(child, inner)


def _texts(call: ast.Call, file: Path) -> tuple[str, str]:
    names = {keyword.arg: keyword.value for keyword in call.keywords}
    given = [*call.args, *(names[name] for name in ("source", "case")[len(call.args) :] if name in names)]
    texts = [node.value for node in given if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    if len(texts) != 2 or not all(text.strip() and text.isprintable() for text in texts):
        raise SystemExit(f"{file}:{call.lineno}: {MARKER} takes two literal texts, the source and the case")
    return texts[0], texts[1]


if __name__ == "__main__":
    sys.exit(main())
