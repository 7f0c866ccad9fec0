"""A check of explanations: for enrollments drawn at random, they answer as the generator knows."""

import random
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

import httpx

from goalworker.demo import check, foreign_changes, plans, tenant_setup
from goalworker.demo.api_check import Access

DRAWN: Final = 60
"""Enrollments to explain at most; each takes a request."""

_TIMEOUT_SECONDS: Final = 30.0

Answer = tuple[str, UUID, bool]
"""(enrollment, goal, whether it is achieved)."""


def draw(sent: Iterable[plans.Enrollment], scope: foreign_changes.Scope, tenant_id: str) -> list[plans.Enrollment]:
    """Draw enrollments of a tenant whose outcome is known; no other contact has used their ids."""
    by_key: dict[plans.EnrollmentKey, list[plans.Enrollment]] = {}
    for enrollment in sent:
        by_key.setdefault(enrollment.key, []).append(enrollment)
    known = sorted(
        (
            one
            for (one, *others) in by_key.values()
            if one.tenant_id == tenant_id and not others and scope.covers(one.key)
        ),
        key=lambda one: one.enrollment_id,
    )
    return random.Random(0).sample(known, min(DRAWN, len(known)))  # noqa: S311 - repeatable, not secret


async def compare(
    api: Access, setup: tenant_setup.TenantSetup, expected: plans.Outcome, drawn: Sequence[plans.Enrollment]
) -> check.Row:
    """Compare the expected achievements of enrollments with the answers of the API's explanations."""
    async with httpx.AsyncClient(base_url=api.url, headers={"x-api-key": api.key}, timeout=_TIMEOUT_SECONDS) as client:
        found = [answer for enrollment in drawn for answer in await _answers(client, enrollment)]
    wanted = [answer for enrollment in drawn for answer in answers_of(setup, expected, enrollment)]
    label = f"explanations of {len(drawn)} enrollments by the API"
    return check.compare_items(label, wanted, found, lambda answer: answer[:2])


def answers_of(setup: tenant_setup.TenantSetup, expected: plans.Outcome, enrollment: plans.Enrollment) -> list[Answer]:
    """Return whether the enrollment achieved each goal of its workflow."""
    achieved = {one.goal_id for one in expected.achieved if one.key == enrollment.key}
    goal_ids = [
        setup.goal_ids[enrollment.tenant_id, goal.key]
        for goal in tenant_setup.GOALS
        if goal.workflow_id == enrollment.workflow_id
    ]
    return [(enrollment.enrollment_id, goal_id, goal_id in achieved) for goal_id in goal_ids]


async def _answers(client: httpx.AsyncClient, enrollment: plans.Enrollment) -> list[Answer]:
    answer = await client.get(
        f"/api/v1/workflows/{enrollment.workflow_id}/explanations",
        params={"contact_id": enrollment.contact_id, "enrollment_id": enrollment.enrollment_id},
    )
    explanations = answer.raise_for_status().json()["explanations"]
    return [(one["enrollment_id"], UUID(one["goal_id"]), one["answer"] == "achieved") for one in explanations]
