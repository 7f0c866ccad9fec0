"""A worker on a version of aiokafka that it does not know warns, and does the same work."""

from dataclasses import replace
from pathlib import Path

import pytest

from goalworker.kafka import fast_fetch
from tests.kit import clients, messages_in, worker_process

pytestmark = pytest.mark.unmeasured

FORGED = "0.14.99"


@pytest.fixture
def forged_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let aiokafka have another version in every Python process that the test starts."""
    (tmp_path / "sitecustomize.py").write_text(f"import aiokafka\naiokafka.__version__ = {FORGED!r}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("forged_version")
async def test_an_unknown_aiokafka_version_gives_a_warning_and_the_same_results(
    installation: worker_process.Installation,
) -> None:
    anew = replace(installation, forker=None)  # the forker has imported the library already
    async with anew.worker() as worker, clients.connect(installation) as client:
        (line,) = worker.lines("fast_fetch_unavailable", level="warning")
        assert (line["aiokafka"], line["known_aiokafka"]) == (FORGED, list(fast_fetch.AIOKAFKA_VERSIONS))
        goal = await client.create_goal("w", "form_submitted", form_id="f")
        enrollments = [messages_in.new_enrollment("w") for _ in range(20)]
        at = messages_in.later(goal.created_at, 1)
        await client.process(*(enrollment.started(at) for enrollment in enrollments))
        await client.process(
            messages_in.Record("form_submitted", b"{"), messages_in.Record("form_submitted", None, b"key")
        )
        await client.process(*(enrollment.submits("f", at) for enrollment in enrollments))
        await client.settle()
        for enrollment in enrollments:
            assert clients.kinds(await client.messages_about(enrollment)) == [("goal.achieved", 1), ("exit.goal", None)]
        (letter,) = await client.dead_letters()
        assert (letter.value, dict(letter.headers)["x-error-reason"]) == (b"{", b"invalid_json")
        topic = installation.topics["form_submitted"]
        outcomes = ("matched", "dead_letter", "tombstone", "unmatched", "duplicate")
        counted = [worker.metric("events_total", topic=topic, outcome=outcome) for outcome in outcomes]
        assert counted == [20, 1, 1, 0, 0]
