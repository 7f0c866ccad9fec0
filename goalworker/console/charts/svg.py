"""Elements of SVG as safe markup: everything that comes from outside is escaped."""

import math
import re
from typing import Final

import markupsafe
from markupsafe import Markup

Attribute = str | float | None

# Escaping does not help against characters that XML has no way to write.
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DECIMALS: Final = 1


def element(name: str, *children: str, **attributes: Attribute) -> Markup:
    """Return an element; `class_` is the attribute class, `stroke_width` is stroke-width, and None is left out."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _value(value))
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, Markup("").join(map(_text, children)))


def drawing(kind: str, size: tuple[float, float], title: str, description: str, *children: str) -> Markup:
    """Return a chart that scales with its element and that screen readers read by its title and description."""
    about = (element("title", title), element("desc", description))
    view_box = f"0 0 {number(size[0])} {number(size[1])}"
    return element("svg", *about, *children, class_=f"chart chart-{kind}", viewBox=view_box, role="img")


def text(words: str, x: float, y: float, anchor: str = "start", class_: str | None = None) -> Markup:
    """Return a text whose base line begins, is centred or ends at a point."""
    return element("text", words, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def rectangle(x: float, y: float, width: float, height: float, class_: str, title: str | None = None) -> Markup:
    """Return a rectangle; browsers show the title of what the mouse is over."""
    children = () if title is None else (element("title", title),)
    return element("rect", *children, x=x, y=y, width=width, height=height, class_=class_)


def path(commands: list[str], class_: str, stroke_width: float | None = None) -> Markup:
    """Return a path, or nothing where it has no commands."""
    return element("path", d="".join(commands), class_=class_, stroke_width=stroke_width) if commands else Markup("")


def move(x: float, y: float) -> str:
    """Return the command that begins a line at a point."""
    return f"M{number(x)} {number(y)}"


def line(x: float, y: float) -> str:
    """Return the command that draws a line to a point."""
    return f"L{number(x)} {number(y)}"


def number(value: float) -> str:
    """Return a coordinate with at most one decimal; ValueError for one that is not finite."""
    if not math.isfinite(value):
        raise ValueError("a coordinate must be finite")
    rounded = round(value, _DECIMALS)
    return str(int(rounded)) if rounded == int(rounded) else str(rounded)


def _value(value: str | float) -> Markup:
    return _text(value if isinstance(value, str) else number(value))


def _text(words: str) -> Markup:
    return words if isinstance(words, Markup) else markupsafe.escape(_NOT_IN_XML.sub("\ufffd", words))
