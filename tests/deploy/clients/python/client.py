"""Use the client that openapi-python-client generates beside this file, as `goalworker_api`."""

import json
import sys

from goalworker_api import AuthenticatedClient
from goalworker_api.api.goals import change_goal, create_goal, delete_goal, get_audit, list_goals
from goalworker_api.api.reports import get_stats
from goalworker_api.models import (
    Audit,
    GoalChanges,
    Goals,
    Problem,
    PurchaseCriteriaDraft,
    PurchaseGoal,
    PurchaseGoalDraft,
    PurchaseGoalState,
    StageCriteriaDraft,
    StageGoal,
    StageGoalDraft,
    Stats,
)

WORKFLOW = "python"


def main(url: str, token: str) -> None:
    with AuthenticatedClient(base_url=url, token=token) as client:
        unknown = get_stats.sync(WORKFLOW, client=client)
        bought = PurchaseGoalDraft("purchase_made", PurchaseCriteriaDraft(min_amount=100.5, currency="eur"))
        created = create_goal.sync(WORKFLOW, client=client, body=bought)
        won = StageGoalDraft("pipeline_stage_reached", StageCriteriaDraft("sales", ["won", "signed"]), name="Won")
        create_goal.sync(WORKFLOW, client=client, body=won)
        again = create_goal.sync(WORKFLOW, client=client, body=bought)
        assert isinstance(created, PurchaseGoal)
        wanted = GoalChanges(name="Bought", criteria=PurchaseCriteriaDraft(any_purchase=True))
        changed = change_goal.sync(WORKFLOW, created.id, client=client, body=wanted, if_match='"1"')
        page = list_goals.sync(WORKFLOW, client=client, limit=10)
        audit = get_audit.sync(WORKFLOW, created.id, client=client)
        stats = get_stats.sync(WORKFLOW, client=client)
        deleted = delete_goal.sync_detailed(WORKFLOW, created.id, client=client)
    assert isinstance(unknown, Problem)
    assert isinstance(again, Problem)
    assert isinstance(changed, PurchaseGoal)
    assert isinstance(page, Goals)
    assert isinstance(page.goals[1], StageGoal)
    assert isinstance(audit, Audit)
    assert isinstance(audit.entries[1].before, PurchaseGoalState)
    assert isinstance(stats, Stats)
    criteria, stage = created.criteria, page.goals[1].criteria
    found = {
        "unknown": unknown.status,
        "created": f"{criteria.min_amount} {criteria.currency}",
        "again": again.type_,
        "changed": [changed.name, changed.version],
        "listed": [goal.goal_type for goal in page.goals],
        "won": [stage.pipeline_id, stage.stage_id],
        "before": audit.entries[1].before.criteria.min_amount,
        "median": stats.median_time_to_goal_seconds,
        "deleted": deleted.status_code,
    }
    sys.stdout.write(json.dumps(found))


main(*sys.argv[1:])
