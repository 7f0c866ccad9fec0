"""Metrics, selectors and labels of PromQL expressions; understands as much of the grammar as ours need."""

import re
from collections.abc import Mapping

import prometheus_client

from goalworker import metrics

_TOKEN = re.compile(
    r"""
      (?P<string>"(?:\\.|[^"\\])*")
    | (?P<range>\[[^\]]*\])
    | (?P<number>\d[\w.]*)
    | \b(?:by|without|on|ignoring|group_left|group_right)\s*\((?P<grouping>[^)]*)\)
    | (?P<selector>(?P<name>[a-zA-Z_:][\w:]*)\s*(?P<matchers>\{(?:"(?:\\.|[^"\\])*"|[^}"])*\})?)
      (?P<call>(?=\s*(?:\(|by\b|without\b)))?
    """,
    re.VERBOSE,
)
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"(?:\\.|[^"\\])*"')
_KEYWORDS = {"and", "or", "unless", "bool", "offset"}
_SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}

# Labels that Prometheus or Kubernetes adds to every series.
TARGET_LABELS = {"namespace", "job", "instance"}

Known = Mapping[str, set[str]]
"""Series by name, each with the labels that it has besides its target's."""


def selectors(expression: str) -> list[str]:
    """Return each selector with its matchers, such as `goalworker_ready{check="goals"}`, without its range."""
    return [
        token["selector"].strip()
        for token in _TOKEN.finditer(expression)
        if token["name"] and token["call"] is None and token["name"] not in _KEYWORDS
    ]


def ranges(expression: str) -> list[str]:
    """Return the ranges, such as `[5m]`."""
    return [token["range"] for token in _TOKEN.finditer(expression) if token["range"]]


def names(expression: str) -> set[str]:
    """Return the names of the metrics."""
    return {name_of(selector) for selector in selectors(expression)}


def name_of(selector: str) -> str:
    return selector.partition("{")[0].strip()


def labels(selector: str) -> set[str]:
    """Return the labels of a selector, or of a series in the text format."""
    return set(_MATCHER.findall(selector.partition("{")[2]))


def strangers(expression: str, known: Known) -> set[str]:
    """Return the metrics and labels that do not exist: Prometheus reports no error for a misspelt one."""
    unknown = names(expression) - known.keys()
    for selector in selectors(expression):
        name = name_of(selector)
        unknown |= {f"{name}{{{label}}}" for label in labels(selector) - known.get(name, set()) - TARGET_LABELS}
    grouped = set[str]().union(*groupings(expression))
    return unknown | (grouped - set[str]().union(TARGET_LABELS, *known.values()))


def groupings(expression: str) -> list[set[str]]:
    """Return the labels of each `by (...)`, `on (...)` and the like."""
    found = (token["grouping"] for token in _TOKEN.finditer(expression))
    return [set(re.findall(r"\w+", labels)) for labels in found if labels is not None]


def divides_rates(expression: str) -> bool:
    """Say whether one increase is divided by another."""
    parts = re.split(r"\s/\s", expression)
    return len(parts) > 1 and all(re.search(r"\b(?:rate|increase)\(", part) for part in parts[:2])


def exposed() -> dict[str, set[str]]:
    """Return every series that goalworker exposes."""
    kinds = prometheus_client.Counter, prometheus_client.Gauge, prometheus_client.Histogram
    ours = {
        f"goalworker_{name}{suffix}": set(metric._labelnames) | ({"le"} if suffix == "_bucket" else set())
        for name, metric in vars(metrics).items()
        if isinstance(metric, kinds)
        for suffix in _SUFFIXES[metric._type]
    }
    every = {sample.name for family in metrics.REGISTRY.collect() for sample in family.samples}
    return {**{name: set() for name in every if name.startswith("process_")}, **ours}
