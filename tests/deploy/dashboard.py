"""The dashboard: its panels, and what it asks Prometheus."""

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

# As Grafana puts in when everything is selected, and for a minute that is scraped every second.
_VALUES = {"__rate_interval": "5s", "__range": "60s", "namespace": ".*", "job": ".*", "instance": ".*"}


def filled(query: str) -> str:
    """Return a query with its variables filled in."""
    return re.sub(r"\$(\w+)", lambda variable: _VALUES[variable[1]], query)


def queries() -> Iterator[tuple[str, str]]:
    """Yield each panel's title with each of its queries, then what is drawn across all panels."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], filled(target["expr"])
    for annotation in BOARD["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], filled(annotation["expr"])


def choices() -> Iterator[tuple[str, str, str]]:
    """Yield each variable that is asked for, the series it comes from, and the label whose values it offers."""
    for name, variable in VARIABLES.items():
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable.get("definition", ""))
        if found:
            yield name, filled(found[1]), found[2]
