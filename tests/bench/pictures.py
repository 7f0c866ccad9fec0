"""Draw the curves: `make bench-table`. The same results give the same bytes."""

import json
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import figure, ticker

from tests.bench import curves

RESULTS = Path(__file__).parent / "results.json"
INCHES = (6.4, 3.2)
COLOUR = "#1f5fa8"


def draw(curve: curves.Curve, file: Path) -> None:
    """Write one picture: the medians as a line, smallest to largest as bars."""
    picture = figure.Figure(figsize=INCHES, layout="constrained")
    axes = picture.subplots()
    x, median, least, most = zip(*curve.points, strict=True)
    below = [middle - low for middle, low in zip(median, least, strict=True)]
    above = [high - middle for middle, high in zip(median, most, strict=True)]
    axes.errorbar(x, median, (below, above), marker="o", markersize=4, capsize=3, color=COLOUR)
    axes.set(title=curve.title, xlabel=curve.level, ylabel=curve.upright, ylim=(0, None))
    axes.set_xscale(curve.scale)
    if curve.scale == "symlog":  # leaves room below zero
        axes.set_xlim(left=-0.25)
    axes.set_xticks(x)
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.grid(visible=True, alpha=0.3)
    picture.savefig(file, metadata={"Date": None, "Creator": None, "Description": curve.mark})


def main() -> int:
    """Draw the curves of results.json, or of the file named first, into the folder named next."""
    results, folder = map(Path, sys.argv[1:]) if sys.argv[1:] else (RESULTS, curves.FOLDER)
    folder.mkdir(exist_ok=True)
    mpl.rcParams.update({"svg.hashsalt": "goalworker", "svg.fonttype": "none", "font.family": "sans-serif"})
    for curve in curves.of(json.loads(results.read_text())):
        draw(curve, folder / curve.file.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
