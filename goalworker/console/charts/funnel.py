"""Funnel: how many of the enrolled got how far."""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup
from msgspec import Struct

from goalworker.console.charts import svg
from goalworker.domain import rates

_WIDTH, _ROW, _BAR = 330.0, 40.0, 14.0
_MARGIN: Final = 6.0
_SHORTEST: Final = 2.0
"""Length of a bar that stands for few among very many."""


class Step(Struct, frozen=True):
    """One step of a funnel, in words and in number."""

    name: str
    count: int


def funnel(steps: Sequence[Step], title: str) -> Markup:
    """Return a bar for each step, in proportion to the largest one, with its number and its share of the first one."""
    most = max((step.count for step in steps), default=0) or 1
    whole = steps[0].count if steps else 0
    rows = [part for index, step in enumerate(steps) for part in _row(index, step, most, whole)]
    words = "; ".join(f"{step.name}: {step.count:,}" for step in steps)
    return svg.drawing("funnel", (_WIDTH, _ROW * max(len(steps), 1)), title, words, *rows)


def _row(index: int, step: Step, most: int, whole: int) -> tuple[Markup, Markup, Markup]:
    top = index * _ROW
    length = (_WIDTH - 2 * _MARGIN) * step.count / most
    length = max(length, _SHORTEST) if step.count else 0.0
    share = f" ({rates.percentage(step.count, whole)} %)" if index and whole else ""
    return (
        svg.text(step.name, _MARGIN, top + 14),
        svg.text(f"{step.count:,}{share}", _WIDTH - _MARGIN, top + 14, "end", "number"),
        svg.rectangle(_MARGIN, top + 20, length, _BAR, f"bar step-{index + 1}"),
    )
