"""The stage: each tenant's workflows and goals, and from when on they hold."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from msgspec import Struct


class GoalPlan(Struct, frozen=True):
    """A goal that each tenant gets; the key is what the scenarios call it, deed what a contact did to meet it."""

    key: str
    workflow_id: str
    goal_type: str
    criteria: dict[str, Any]
    deed: str


# In this order they are created: of two goals that one event achieves, the first is the completing one.
GOALS: Final = (
    GoalPlan("signed-up", "welcome", "form_submitted", {"form_id": "signup"}, "signed up"),
    GoalPlan("customer", "welcome", "tag_added", {"tag_name": "Customer"}, "became a customer"),
    GoalPlan("subscribed", "newsletter", "form_submitted", {"form_id": "signup"}, "subscribed"),
    GoalPlan(
        "bought",
        "checkout",
        "purchase_made",
        {"product_id": "pro-plan", "min_amount": "49.99", "currency": "EUR"},
        "bought",
    ),
    GoalPlan("vip", "checkout", "tag_added", {"tag_id": "tag-vip", "tag_name": "VIP"}, "became a VIP"),
    GoalPlan("any-purchase", "upsell", "purchase_made", {"any_purchase": True}, "bought"),
    GoalPlan("pro", "upsell", "purchase_made", {"product_id": "pro-plan"}, "bought the pro plan"),
    GoalPlan("kick-off", "onboarding", "form_submitted", {"form_id": "kick-off"}, "kicked off"),
    GoalPlan("first-call", "onboarding", "appointment_booked", {"calendar_id": "onboarding"}, "booked a call"),
    GoalPlan("won", "onboarding", "pipeline_stage_reached", {"pipeline_id": "deals", "stage_id": "won"}, "was won"),
    GoalPlan("answered", "survey", "form_submitted", {"form_id": "survey"}, "answered"),
    GoalPlan("booked", "survey", "appointment_booked", {"any_appointment": True}, "booked"),
    GoalPlan("paused-signup", "paused", "form_submitted", {"form_id": "signup"}, "signed up"),
    GoalPlan("reopened-signup", "reopened", "form_submitted", {"form_id": "signup"}, "signed up"),
    GoalPlan("farewell", "sunset", "form_submitted", {"form_id": "farewell"}, "said farewell"),
)
GOAL_OF_KEY: Final[Mapping[str, GoalPlan]] = {goal.key: goal for goal in GOALS}

# What is not named here has `any`, the default.
LOGICS: Final[Mapping[str, str]] = {"onboarding": "all", "survey": "never"}

PAUSE: Final = timedelta(milliseconds=20)
"""For this long from the beginning on the workflow `reopened` is inactive; `paused` stays so."""

TENANT_NAMES: Final = ("acme", "globex", "initech", "umbrella", "hooli", "stark", "wayne", "wonka")


class TenantSetup(Struct, frozen=True):
    """What stands before the traffic begins; every goal and every logic holds from `since` on."""

    tenants: tuple[str, ...]
    goal_ids: Mapping[tuple[str, str], UUID]
    since: datetime


def tenant_names(count: int, suffix: str = "") -> tuple[str, ...]:
    """Return that many names; the suffix keeps a run apart from earlier ones on the same data."""
    names = [*TENANT_NAMES, *(f"tenant-{number}" for number in range(len(TENANT_NAMES) + 1, count + 1))]
    return tuple(f"{name}{suffix}" for name in names[:count])


def logic(workflow_id: str) -> str:
    """Return the logic that a workflow has."""
    return LOGICS.get(workflow_id, "any")
