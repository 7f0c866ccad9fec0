"""Where the engine sends no lifecycle messages, every contact counts as enrolled (contract rule 3.8)."""

from tests.kit import conversation, messages_in, worker_process


async def test_without_tracking_every_contact_counts_once_and_workflow_states_still_do(
    there: worker_process.Installation,
) -> None:
    async with conversation.talk(there) as talk:
        goal = await talk.goal("sales/spring", "form_submitted", form_id="f")
        at = messages_in.later(goal.created_at, 1)
        run = messages_in.Run("sales/spring", "contact:sales%2Fspring:c%3A1", "c:1")
        ignored = messages_in.Run("sales/spring", "somebody's run", "c:1")
        async with there.worker(ENROLLMENTS__TRACKING="false") as worker:
            await talk.say(ignored.started(messages_in.later(at, 100)), ignored.ended(at))
            await talk.say(run.submits("f", messages_in.later(at, 20)), run.submits("f", messages_in.later(at, 30)))
            await talk.say(run.submits("f", messages_in.later(at, 10)))
            await talk.say(messages_in.deactivated(run.workflow_id, at))
            heard = await talk.heard(run)
            assert conversation.kinds(heard) == [
                ("goal.achieved", 1),
                ("goal.achieved", 2),
                ("goal.revoked", 3),
                ("exit.goal", None),
            ]
            assert heard[0].data["enrolled_at"] is None
            assert {name: heard[-1].data[name] for name in run.ids} == run.ids
            assert await talk.heard(ignored) == []
            lifecycle = there.topics["workflow_lifecycle"]
            assert worker.metric("events_total", topic=lifecycle, outcome="ignored") == 2
            assert worker.metric("events_total", topic=lifecycle, outcome="recorded") == 1

        other_mode = there.call("run", OPS__PORT=0)
        assert other_mode.code == 3
        assert "GOALWORKER_ENROLLMENTS__TRACKING=true" in other_mode.err
        assert "Traceback" not in other_mode.err
