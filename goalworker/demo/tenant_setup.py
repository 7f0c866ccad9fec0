"""Workflows and goals of the demo's tenants."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from msgspec import Struct


class GoalPlan(Struct, frozen=True):
    """A goal that every tenant gets; `key` is its name in the scenarios, `deed` the phrase for a contact who met it."""

    key: str
    workflow_id: str
    goal_type: str
    criteria: dict[str, Any]
    deed: str


# Created in this order: if one event achieves two goals, the earlier one completes the workflow.
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
    GoalPlan("greeted", "seasonal", "form_submitted", {"form_id": "greeting"}, "sent a greeting"),
    GoalPlan("ordered", "shop", "purchase_made", {"any_purchase": True}, "ordered"),
    GoalPlan(
        "regular", "shop", "purchase_made", {"any_purchase": True, "times": 3, "within": "P30D"}, "ordered three times"
    ),
    GoalPlan(
        "paid-in-full",
        "instalments",
        "purchase_made",
        {"total_amount": "300", "currency": "EUR", "within": "P365D"},
        "paid in full",
    ),
    GoalPlan("coached", "coaching", "appointment_booked", {"calendar_id": "coaching"}, "booked a coach"),
    GoalPlan("applied", "application", "form_submitted", {"form_id": "application"}, "applied"),
    GoalPlan(
        "deal-won",
        "sales",
        "pipeline_stage_reached",
        {"pipeline_id": "deals", "stage_id": "won", "correlate_by": "deal_id"},
        "won the deal",
    ),
)
GOAL_OF_KEY: Final[Mapping[str, GoalPlan]] = {goal.key: goal for goal in GOALS}

# All other workflows have `any`, the default.
LOGICS: Final[Mapping[str, str]] = {"onboarding": "all", "survey": "never", "shop": "never"}

PAUSE: Final = timedelta(milliseconds=20)
"""The workflow `reopened` is inactive for this long from the start; `paused` is inactive for good."""

TENANT_NAMES: Final = ("acme", "globex", "initech", "umbrella", "hooli", "stark", "wayne", "wonka")


class TenantSetup(Struct, frozen=True):
    """Tenants and goals that exist before the traffic starts; all goals and logics are in force from `since` on."""

    tenants: tuple[str, ...]
    goal_ids: Mapping[tuple[str, str], UUID]
    since: datetime


def tenant_names(count: int, suffix: str = "") -> tuple[str, ...]:
    """Return `count` names; the suffix distinguishes them from those of earlier runs on the same data."""
    names = [*TENANT_NAMES, *(f"tenant-{number}" for number in range(len(TENANT_NAMES) + 1, count + 1))]
    return tuple(f"{name}{suffix}" for name in names[:count])


def logic(workflow_id: str) -> str:
    """Return the logic of a workflow."""
    return LOGICS.get(workflow_id, "any")
