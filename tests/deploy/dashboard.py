"""Panels of the dashboard, and their queries to Prometheus."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.deploy import rules

PATH = rules.DEPLOY / "grafana" / "goalworker.json"
BOARD: dict[str, Any] = json.loads(PATH.read_text())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
ROWS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] == "row"]
VARIABLES: dict[str, dict[str, Any]] = {variable["name"]: variable for variable in BOARD["templating"]["list"]}

# Values that Grafana fills in when everything is selected and the range is a minute of scrapes every second.
_VALUES = {"__rate_interval": "5s", "__range": "60s", "namespace": ".*", "job": ".*", "instance": ".*"}


def filled(query: str) -> str:
    """Return a query with its variables filled in."""
    return re.sub(r"\$(\w+)", lambda variable: _VALUES[variable[1]], query)


def queries() -> Iterator[tuple[str, str]]:
    """Yield each query with its panel's title, and then the annotations."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], filled(target["expr"])
    for annotation in BOARD["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], filled(annotation["expr"])


def choices() -> Iterator[tuple[str, str, str]]:
    """Yield each variable, the series that it queries, and the label with its values."""
    for name, variable in VARIABLES.items():
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable.get("definition", ""))
        if found:
            yield name, filled(found[1]), found[2]
