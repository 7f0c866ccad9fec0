"""Where the engine sends no lifecycle messages, every contact counts as enrolled (contract rule 3.8)."""

from tests.acceptance import running, saying, wire


async def test_without_tracking_every_contact_counts_once_and_workflow_states_still_do(
    there: running.Installation,
) -> None:
    async with wire.talk(there) as talk:
        goal = await talk.goal("sales/spring", "form_submitted", form_id="f")
        at = saying.later(goal.created_at, 1)
        run = saying.Run("sales/spring", "contact:sales%2Fspring:c%3A1", "c:1")
        ignored = saying.Run("sales/spring", "somebody's run", "c:1")
        async with there.worker(ENROLLMENTS__TRACKING="false") as worker:
            await talk.say(ignored.started(saying.later(at, 100)), ignored.ended(at))
            await talk.say(run.submits("f", saying.later(at, 20)), run.submits("f", saying.later(at, 30)))
            await talk.say(run.submits("f", saying.later(at, 10)))
            await talk.say(saying.deactivated(run.workflow_id, at))
            heard = await talk.heard(run)
            assert wire.kinds(heard) == [
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
        assert other_mode.returncode == 3
        assert "GOALWORKER_ENROLLMENTS__TRACKING=true" in other_mode.stderr
        assert "Traceback" not in other_mode.stderr
