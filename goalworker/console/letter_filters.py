"""Filters of dead letters: from a form's fields to a selection, and to the command of the shell that does the same."""

import shlex
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from goalworker import metrics
from goalworker.inspection.dead_letter_reading import Selection

_FIELDS: Final = ("topic", "reason", "since", "until")


class Filters(Struct, frozen=True):
    """Filters as they were given, and what is wrong with them, by the names of the fields."""

    given: Mapping[str, str]
    faults: Mapping[str, str]

    def selection(self, tenant_id: str) -> Selection:
        """Return the selection of a tenant's letters; the filters have no faults."""
        since, until = (_moment(self.given[name]) for name in ("since", "until"))
        return Selection(since, until, self.given["topic"] or None, self.given["reason"] or None, tenant_id=tenant_id)

    def command(self, name: str, tenant_id: str, *more: str) -> str | None:
        """Return the command of `goalworker dlq` that selects the same letters, None while there are faults."""
        if self.faults:
            return None
        selection = self.selection(tenant_id)
        moments = {"since": selection.since, "until": selection.until}
        given = {
            **{"tenant": selection.tenant_id, "topic": selection.topic, "reason": selection.reason},
            **{name: moment and moment.isoformat().replace("+00:00", "Z") for name, moment in moments.items()},
        }
        options = [f"--{option}={value}" for option, value in given.items() if value]
        return shlex.join(["goalworker", "dlq", name, *options, *more])

    def match(self, topic: str | None, reason: str | None) -> bool:
        """Say whether topic and reason of a letter are those asked for, whatever its time."""
        return self.given["topic"] in ("", topic) and self.given["reason"] in ("", reason)


def parse(query: Mapping[str, str], topics: Collection[str]) -> Filters:
    """Return the filters in a query; topics are those that letters come from."""
    given = {name: query.get(name, "").strip() for name in _FIELDS}
    faults = {}
    if given["topic"] and given["topic"] not in topics:
        faults["topic"] = "Choose one of the topics in"
    if given["reason"] and given["reason"] not in metrics.REASONS:
        faults["reason"] = "Choose one of the reasons"
    for name in ("since", "until"):
        try:
            _moment(given[name])
        except ValueError:
            faults[name] = "Give a time such as 2026-05-01T12:00"
    return Filters(given, faults)


def _moment(text: str) -> datetime | None:
    """Return a time, which is in UTC unless it says otherwise; ValueError."""
    moment = datetime.fromisoformat(text) if text else None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
