"""Every contact counts as enrolled without lifecycle messages (contract rule 3.8)."""

import pytest

from tests.kit import clients, messages_in, worker_process

pytestmark = pytest.mark.unmeasured


async def test_without_tracking_contacts_count_once_and_workflow_states_apply(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        goal = await client.create_goal("sales/spring", "form_submitted", form_id="f")
        at = messages_in.later(goal.created_at, 1)
        enrollment = messages_in.Enrollment("sales/spring", "contact:sales%2Fspring:c%3A1", "c:1")
        ignored = messages_in.Enrollment("sales/spring", "somebody's run", "c:1")
        async with installation.worker(ENROLLMENTS__TRACKING="false") as worker:
            await client.process(ignored.started(messages_in.later(at, 100)), ignored.ended(at))
            await client.process(
                enrollment.submits("f", messages_in.later(at, 20)), enrollment.submits("f", messages_in.later(at, 30))
            )
            await client.process(enrollment.submits("f", messages_in.later(at, 10)))
            await client.process(messages_in.deactivated(enrollment.workflow_id, at))
            messages = await client.messages_about(enrollment)
            assert clients.kinds(messages) == [("goal.achieved", 1), ("goal.achieved", 2), ("exit.goal", None)]
            assert messages[0].data["enrolled_at"] is None
            assert {name: messages[-1].data[name] for name in enrollment.ids} == enrollment.ids
            assert await client.messages_about(ignored) == []
            paused = messages_in.Enrollment("sales/spring", "contact:sales%2Fspring:c2", "c2")
            await client.process(paused.submits("f", messages_in.later(at, 40)))
            assert clients.kinds(await client.messages_about(paused)) == [("goal.achieved", 1)]
            await client.process(messages_in.activated(enrollment.workflow_id, messages_in.later(at, 50)))
            assert clients.kinds(await client.messages_about(paused)) == [("goal.achieved", 1), ("exit.goal", None)]
            lifecycle = installation.topics["workflow_lifecycle"]
            assert worker.metric("events_total", topic=lifecycle, outcome="ignored") == 2
            assert worker.metric("events_total", topic=lifecycle, outcome="recorded") == 2

        other_mode = installation.call("run", OPS__PORT=0)
        assert other_mode.code == 3
        assert "GOALWORKER_ENROLLMENTS__TRACKING=true" in other_mode.err
        assert "Traceback" not in other_mode.err
