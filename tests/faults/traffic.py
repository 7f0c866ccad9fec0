"""Traffic of many enrollments: goals of every kind, and scenes whose outcome is known beforehand."""

import random
from collections.abc import Collection
from typing import Final

from tests.faults.scenes import SCENES, Scene
from tests.faults.sending import PLANTED, Sending
from tests.kit import clients

_FORMS: Final = {
    **{"one": "any", "first": "all", "second": "all", "counted": "never"},
    **{"resumed": "paused", "never": "stopped"},
}
"""Workflow of each goal that asks for a form."""
_OTHERS: Final[dict[str, tuple[str, str, dict[str, object]]]] = {
    "bought": ("shop", "purchase_made", {"currency": "EUR", "min_amount": "50"}),
    "met": ("calls", "appointment_booked", {"any_appointment": True}),
    "thrice": ("loyal", "purchase_made", {"any_purchase": True, "times": 3, "within": "PT1H"}),
    "paid": ("debtors", "purchase_made", {"total_amount": "100", "currency": "EUR", "within": "PT1H"}),
    "won": ("sales", "pipeline_stage_reached", {"pipeline_id": "deals", "stage_id": "won", "correlate_by": "deal_id"}),
}
"""Workflow, type and criteria of the other goals."""


class Traffic(Sending):
    """Scenes of many enrollments, shuffled."""

    @classmethod
    async def begin(cls, client: clients.Client, name: str, seed: int = 0) -> "Traffic":
        """Create the goals of the traffic."""
        await client.set_logic(f"{name}-all", "all")
        await client.set_logic(f"{name}-never", "never")
        forms = {
            goal: await client.create_goal(f"{name}-{workflow}", "form_submitted", form_id=f"{PLANTED}-{name}-{goal}")
            for goal, workflow in _FORMS.items()
        }
        others = {
            goal: await client.create_goal(f"{name}-{workflow}", goal_type, **criteria)
            for goal, (workflow, goal_type, criteria) in _OTHERS.items()
        }
        goals = forms | others
        since = max(goal.created_at for goal in goals.values())
        return cls(client, name, goals, since, random.Random(f"{name} {seed}"))

    def plan(self, enrollments: int, malformed: int = 0, *, without: Collection[Scene] = ()) -> None:
        """Plan enrollments and malformed records, shuffled."""
        weights = {scene: weight for scene, weight in SCENES.items() if scene not in without}
        for _ in range(enrollments):
            (scene,) = self.chance.choices(list(weights), list(weights.values()))
            scene(self)
        for _ in range(malformed):
            self.malformed()
        self.chance.shuffle(self.unsent)
