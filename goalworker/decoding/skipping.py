"""Records that are skipped and counted: tests, moves to the same stage, foreign types, foreign tenants (section 2)."""

from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct, structs

from goalworker.domain import events

Outcome = Literal["test", "no_move", "foreign_type", "foreign_tenant"]
TEST: Final = "test"
NO_MOVE: Final = "no_move"
FOREIGN_TYPE: Final = "foreign_type"
FOREIGN_TENANT: Final = "foreign_tenant"


class Skipped(Struct, frozen=True, gc=False):
    """An event that is skipped, by its CloudEvents type and its tenant; the outcome says why, as the metric does.

    Of a foreign tenant's record, type is empty if it was not read, and tenant_id is None if it cannot be told.
    """

    outcome: Outcome
    type: str
    tenant_id: str | None


Testable = events.GoalData | events.ReversalData
"""Data of the events that may be tests."""
Settle = Callable[[Testable], tuple[Testable, Outcome | None]]
"""Returns the data of an event as it counts, and the outcome if the event is skipped."""


def settling(*, count_tests: bool) -> Settle:
    """Return a Settle, to which only `true` makes an event a test: any other value counts as an unknown field."""

    def settle(data: Testable) -> tuple[Testable, Outcome | None]:
        if data.test and not count_tests:
            return data, TEST
        if data.test is False:
            data = structs.replace(data, test=None)
        stays = isinstance(data, events.StageChanged) and data.stage_id == data.previous_stage_id
        return data, NO_MOVE if stays else None

    return settle
