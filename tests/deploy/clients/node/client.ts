// Uses what openapi-typescript makes of the document: the types say which criteria a goal of a type has.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[]; stdout: { write(text: string): void } };

type Goal = components["schemas"]["Goal"];

const [, , baseUrl, token] = process.argv;
if (baseUrl === undefined || token === undefined) throw new Error("usage: client URL TOKEN");
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
const workflow = { workflow_id: "node" };

function had<T>(answer: { data?: T; error?: components["schemas"]["Problem"] | undefined }): T {
  if (answer.data === undefined) throw new Error(answer.error?.detail ?? "no answer");
  return answer.data;
}

function asked(goal: Goal): unknown {
  switch (goal.goal_type) {
    case "purchase_made":
      return `${goal.criteria.min_amount} ${goal.criteria.currency}`;
    case "pipeline_stage_reached":
      return [goal.criteria.pipeline_id, goal.criteria.stage_id];
    default:
      return goal.goal_type;
  }
}

const unknown = await api.GET("/api/v1/workflows/{workflow_id}/goals/stats", { params: { path: workflow } });
const bought = {
  goal_type: "purchase_made",
  criteria: { min_amount: 100.5, currency: "eur" },
} satisfies components["schemas"]["GoalDraft"];
const goals = "/api/v1/workflows/{workflow_id}/goals";
const created = had(await api.POST(goals, { params: { path: workflow }, body: bought }));
had(
  await api.POST(goals, {
    params: { path: workflow },
    body: {
      goal_type: "pipeline_stage_reached",
      criteria: { pipeline_id: "sales", stage_id: ["won", "signed"] },
      name: "Won",
    },
  }),
);
const again = await api.POST(goals, { params: { path: workflow }, body: bought });
const path = { ...workflow, goal_id: created.id };
const changed = had(
  await api.PATCH(`${goals}/{goal_id}`, {
    params: { path, header: { "If-Match": '"1"' } },
    body: { name: "Bought", criteria: { any_purchase: true } },
  }),
);
const page = had(await api.GET(goals, { params: { path: workflow, query: { limit: 10 } } }));
const audit = had(await api.GET(`${goals}/{goal_id}/audit`, { params: { path } }));
const stats = had(await api.GET(`${goals}/stats`, { params: { path: workflow } }));
const deleted = await api.DELETE(`${goals}/{goal_id}`, { params: { path } });

const before = audit.entries[1]?.before;
process.stdout.write(
  JSON.stringify({
    unknown: unknown.error?.status,
    created: asked(created),
    again: again.error?.type,
    changed: [changed.name, changed.version],
    listed: page.goals.map((goal) => goal.goal_type),
    won: page.goals.map(asked)[1],
    before: before?.goal_type === "purchase_made" ? before.criteria.min_amount : null,
    median: stats.median_time_to_goal_seconds,
    deleted: deleted.response.status,
  }),
);
