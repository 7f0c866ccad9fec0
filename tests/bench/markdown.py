"""Figures and tables in Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence


def judged(value: float, goal: float, unit: str, *, least: bool = False) -> str:
    """Return a figure beside its target, and whether it is missed; least: the target is a minimum."""
    met = value >= goal if least else value <= goal
    return f"{value:g} {unit} (goal: {'>=' if least else '<='} {goal:g}{'' if met else ', **missed**'})"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def spread(of: Mapping[str, float]) -> str:
    """Return median, smallest and largest value of whole numbers."""
    return f"{of['median']:,.0f} ({of['min']:,.0f} to {of['max']:,.0f})"
