"""Check the mechanical part of our prose: first words of docstrings, and turns over which a reader trips.

Usage: prose.py [PATH ...], by default the whole repository. Exit code 1 where it finds something.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

# A docstring begins with a verb in the imperative or with a concrete noun.
BANNED_FIRST: Final = frozenset(
    [
        "what",
        "who",
        "whom",
        "whose",
        "where",
        "wherever",
        "when",
        "how",
        "however",
        "why",
        "so",
        "of",
        "which",
        "that",
        "whether",
        "it",
        "its",
        "is",
        "are",
        "there",
        "as",
        "for",
        "if",
        "in",
        "from",
        "to",
        "with",
        "without",
        "by",
        "on",
        "at",
        "not",
        "nothing",
        "none",
        "nobody",
        "somebody",
        "something",
        "whatever",
        "whoever",
        "under",
        "after",
        "acknowledges",
        "admits",
        "answers",
        "asks",
        "begins",
        "checks",
        "comes",
        "counts",
        "decides",
        "decodes",
        "does",
        "drops",
        "finds",
        "gives",
        "has",
        "holds",
        "is",
        "judges",
        "keeps",
        "knows",
        "lists",
        "listens",
        "logs",
        "makes",
        "measures",
        "notices",
        "opens",
        "probes",
        "raises",
        "reads",
        "runs",
        "says",
        "sends",
        "stands",
        "takes",
        "tells",
        "uses",
        "writes",
    ]
)
# Inverted and coined turns: write subject, verb, object instead. `None`, the value, is not meant.
BANNED: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?:is|are|was|were|be|has|have) (?-i:none)\b",
        r"\b(?-i:none) (?:is|are|was|were|has|have)\b",
        r"\b(?:is|are|was) no (?!longer\b|more\b|matter\b)[a-z]",
        r"\bwhat (?:comes|came|becomes|became) of\b",
        r"\bwhat (?:is|was|are|were) (?:told|said|asked|meant|taken|given|known|sent|due|kept|held|left|wanted)\b",
        r"\bwho(?:ever)? (?:asks|asked|reads|is no|knows|sends|runs|wants|has|does)\b",
        r"\bso (?:many|much|few) (?:of|are|is|were|[a-z]+s\b)",
        r"\bnobody (?:asks|asked|needs|waits|wants|knows)\b",
        r"\bof (?:them|these|those|which) (?:none|nothing)\b",
        r"\b(?:untold|unsaid)\b",
        r"\bas (?:many|much) as (?:it|they) (?:is|are)\b",
    )
)
PROSE: Final = ("*.py", "*.md", ".ci/*")


class Location(NamedTuple):
    """A line of a file."""

    path: Path
    line: int


def main(paths: list[str]) -> int:
    """Print each finding as PATH:LINE: text, and return the exit code."""
    files = [Path(path) for path in paths] or _tracked()
    findings = [finding for path in files for finding in check(path)]
    for location, finding in findings:
        print(f"{location.path}:{location.line}: {finding}")
    return 1 if findings else 0


def check(path: Path) -> Iterator[tuple[Location, str]]:
    """Yield the findings of one file."""
    text = path.read_text()
    if path.suffix == ".md":
        prose = dict(enumerate(text.splitlines(), 1))
    elif path.suffix == ".py":
        yield from ((Location(path, line), finding) for line, finding in _first_words(text))
        prose = _prose_of_code(text)
    else:
        return
    for line, words in sorted(prose.items()):
        for banned in BANNED:
            if found := banned.search(words):
                yield Location(path, line), f"“{found[0]}”: write subject, verb, object"


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", *PROSE], capture_output=True, text=True, check=True)  # noqa: S607
    return [Path(name) for name in listed.stdout.split("\0") if name]


def _first_words(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words = (ast.get_docstring(node) or "").split()
            if words and words[0].strip(",.:;").lower() in BANNED_FIRST:
                yield node.body[0].lineno, f"docstring begins with “{words[0]}”: use a verb in the imperative or a noun"


def _prose_of_code(text: str) -> dict[int, str]:
    """Return the comments and strings of a module, each with the line on which it begins."""
    prose: dict[int, list[str]] = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and " " in token.string):
            for number, line in enumerate(token.string.splitlines(), token.start[0]):
                prose.setdefault(number, []).append(line)
    return {number: " ".join(lines) for number, lines in prose.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
