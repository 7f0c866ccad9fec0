"""Requests for pages of a workflow's goals: their visitor, and the workflow or goal that they are about."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from msgspec import Struct

from goalworker.api import parameters
from goalworker.console import addresses, visitors


class OfWorkflow(Struct, frozen=True):
    """A visitor's request about a workflow."""

    request: Request
    visitor: visitors.Visitor
    context: parameters.Context
    workflow_id: str


class OfGoal(OfWorkflow, frozen=True):
    """A visitor's request about a goal of a workflow."""

    goal_id: UUID


async def _read(
    request: Request, visitor: visitors.Reader, context: parameters.InContext, workflow_id: addresses.WorkflowId
) -> OfWorkflow:
    return OfWorkflow(request, visitor, context, workflow_id)


async def _changed(
    request: Request, visitor: visitors.Writer, context: parameters.InContext, workflow_id: addresses.WorkflowId
) -> OfWorkflow:
    return OfWorkflow(request, visitor, context, workflow_id)


ReadWorkflow = Annotated[OfWorkflow, Depends(_read)]
"""A request of somebody who may read."""
ChangedWorkflow = Annotated[OfWorkflow, Depends(_changed)]
"""A form of somebody who may change goals."""


async def _read_goal(asked: ReadWorkflow, goal_id: parameters.GoalId) -> OfGoal:
    return _of_goal(asked, goal_id)


async def _changed_goal(asked: ChangedWorkflow, goal_id: parameters.GoalId) -> OfGoal:
    return _of_goal(asked, goal_id)


def _of_goal(asked: OfWorkflow, goal_id: UUID) -> OfGoal:
    return OfGoal(asked.request, asked.visitor, asked.context, asked.workflow_id, goal_id)


ReadGoal = Annotated[OfGoal, Depends(_read_goal)]
"""A request about a goal, of somebody who may read."""
ChangedGoal = Annotated[OfGoal, Depends(_changed_goal)]
"""A form about a goal, of somebody who may change goals."""
