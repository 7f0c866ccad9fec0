// Uses what oapi-codegen makes of the document; it is generated beside this file, as package api.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"goalworker.test/client/api"
)

const workflow = "go"

// got returns an answer, or ends the program.
func got[T any](answer T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return answer
}

func draft[T any](from func(T) error, given T, body *api.GoalDraft) api.GoalDraft {
	got(0, from(given))
	return *body
}

func main() {
	url, token := os.Args[1], os.Args[2]
	authorized := func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
	client := got(api.NewClientWithResponses(url, api.WithRequestEditorFn(authorized)))
	ctx := context.Background()

	unknown := got(client.GetStatsWithResponse(ctx, workflow, nil))

	var amount api.PurchaseCriteriaDraft_MinAmount
	got(0, amount.FromPurchaseCriteriaDraftMinAmount0(100.5))
	currency, won := "eur", "Won"
	var pipeline, stages api.IdsDraft
	got(0, pipeline.FromIdsDraft0("sales"))
	got(0, stages.FromIdsDraft1([]string{"won", "signed"}))
	var first, second api.GoalDraft
	bought := draft(first.FromPurchaseGoalDraft, api.PurchaseGoalDraft{
		Criteria: api.PurchaseCriteriaDraft{MinAmount: &amount, Currency: &currency},
	}, &first)
	created := got(got(client.CreateGoalWithResponse(ctx, workflow, bought)).JSON201.AsPurchaseGoal())
	got(client.CreateGoalWithResponse(ctx, workflow, draft(second.FromStageGoalDraft, api.StageGoalDraft{
		Criteria: api.StageCriteriaDraft{PipelineId: pipeline, StageId: stages}, Name: &won,
	}, &second)))
	again := got(client.CreateGoalWithResponse(ctx, workflow, bought))

	anything, name, version := true, "Bought", `"1"`
	var criteria api.CriteriaDraft
	got(0, criteria.FromPurchaseCriteriaDraft(api.PurchaseCriteriaDraft{AnyPurchase: &anything}))
	answer := got(client.ChangeGoalWithResponse(ctx, workflow, created.Id,
		&api.ChangeGoalParams{IfMatch: &version}, api.GoalChanges{Name: &name, Criteria: &criteria}))
	changed := got(answer.JSON200.AsPurchaseGoal())

	limit := int64(10)
	page := got(client.ListGoalsWithResponse(ctx, workflow, &api.ListGoalsParams{Limit: &limit})).JSON200
	types := []string{}
	for _, goal := range page.Goals {
		types = append(types, got(goal.Discriminator()))
	}
	stage := got(got(page.Goals[1].ValueByDiscriminator()).(api.StageGoal), nil)
	audit := got(client.GetAuditWithResponse(ctx, workflow, created.Id)).JSON200
	before := got(audit.Entries[1].Before.AsPurchaseGoalState())
	stats := got(client.GetStatsWithResponse(ctx, workflow, nil)).JSON200
	deleted := got(client.DeleteGoalWithResponse(ctx, workflow, created.Id, nil))

	got(0, json.NewEncoder(os.Stdout).Encode(map[string]any{
		"unknown": unknown.ApplicationproblemJSON404.Status,
		"created": *created.Criteria.MinAmount + " " + *created.Criteria.Currency,
		"again":   again.ApplicationproblemJSON409.Type,
		"changed": []any{changed.Name, changed.Version},
		"listed":  types,
		"won":     []any{got(stage.Criteria.PipelineId.AsIds0()), got(stage.Criteria.StageId.AsIds1())},
		"before":  *before.Criteria.MinAmount,
		"median":  stats.MedianTimeToGoalSeconds,
		"deleted": deleted.StatusCode(),
	}))
}
