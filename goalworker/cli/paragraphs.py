"""Paragraphs of at most 80 columns, for people who read them on any terminal or in a ticket."""

import textwrap
from collections.abc import Iterator
from typing import Final

WIDTH: Final = 80
"""Columns of a line; a longer word, such as an id, stays whole."""


def wrapped(text: str, first: str = "", then: str | None = None) -> Iterator[str]:
    """Yield the lines of a text; the first begins with `first`, the others with `then`, or with `first` too."""
    yield from textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=first if then is None else then,
        break_long_words=False,
        break_on_hyphens=False,
    )
