"""Notice a change that made goalworker slow, on any machine: by its share of the raw drain, never by time."""

from collections.abc import Mapping
from typing import Any

FLOOR = 0.4
"""Of the share in results.json. A short run reaches less than a long one, and a busy machine slows the product more."""
ATTEMPTS = 3
"""A row is measured so often before it counts as slow."""


def slow(row: Mapping[str, Any], known: Mapping[str, Any]) -> str | None:
    """Return a sentence if the best round of a row is below its floor; known is the row of results.json."""
    floors = {each["name"]: FLOOR * each["share_percent"]["median"] for each in known["rows"]}
    floor, best = floors.get(row["name"]), row["share_percent"]["max"]
    if floor is None or best >= floor:
        return None
    return (
        f"{row['name']}: the product reaches {best:g} % of the raw client in this run, less than {floor:g} %, which is "
        f"{FLOOR:.0%} of what it reached when the README's table was made."
    )
