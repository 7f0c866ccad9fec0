"""Charts of block characters: sparklines of one row, and stacked charts of several rows."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from rich.text import Text


class Glyphs(Struct, frozen=True):
    """Characters to draw with: `steps` fill a cell from an eighth to all of it, `none` stands for a missing value."""

    steps: str
    none: str
    top: str
    axis: str
    dot: str


BLOCKS: Final = Glyphs("▁▂▃▄▅▆▇█", none=" ", top="▔", axis="▏", dot="·")
ASCII: Final = Glyphs(".:-=+*%#", none=" ", top="^", axis="|", dot="-")
"""For terminals that show nothing but ASCII."""

Values = Sequence[float | None]


def spark(values: Values, width: int, top: float, style: str, glyphs: Glyphs) -> Text:
    """Return one row with the latest value at the right; 0 is drawn as the lowest step."""
    text = Text(" " * max(width - len(values), 0))
    for value in values[-width:] if width > 0 else ():
        if value is None:
            text.append(glyphs.none)
        else:
            text.append(glyphs.steps[_step(value, top, len(glyphs.steps))], style)
    return text


def chart(
    low: Values, high: Values, width: int, height: int, top: float, styles: tuple[str, str], glyphs: Glyphs
) -> list[Text]:
    """Return rows of columns: the first style up to `low`, the second from there up to `high`."""
    columns = [
        (_eighths(below, top, height, glyphs), _eighths(above, top, height, glyphs))
        for below, above in zip(low[-width:], high[-width:], strict=True)
    ]
    rows = []
    for row in range(height - 1, -1, -1):
        text = Text(" " * (width - len(columns)))
        for below, above in columns:
            _append_cell(text, below, above, row, styles, glyphs)
        rows.append(text)
    return rows


def bar(value: float, top: float, width: int, glyphs: Glyphs) -> str:
    """Return a horizontal bar in proportion to `top`, at least one cell long unless the value is 0."""
    cells = round(value / top * width) if top else 0
    return glyphs.steps[-1] * (max(cells, 1) if value else 0)


def _step(value: float, top: float, steps: int) -> int:
    return min(round(value / top * (steps - 1)), steps - 1) if top else 0


def _eighths(value: float | None, top: float, height: int, glyphs: Glyphs) -> int:
    if not value or not top:
        return 0
    full = height * len(glyphs.steps)
    return max(min(round(value / top * full), full), 1)


def _append_cell(text: Text, below: int, above: int, row: int, styles: tuple[str, str], glyphs: Glyphs) -> None:
    size = len(glyphs.steps)
    filled_below, filled_above = (min(max(eighths - row * size, 0), size) for eighths in (below, above))
    if filled_below == size or (filled_below and filled_above < size):
        text.append(glyphs.steps[filled_below - 1], styles[0])
    elif filled_below:
        text.append(glyphs.steps[filled_below - 1], f"{styles[0]} on {styles[1]}")
    elif filled_above:
        text.append(glyphs.steps[filled_above - 1], styles[1])
    else:
        text.append(" ")
