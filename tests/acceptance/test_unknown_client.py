"""A worker on a version of aiokafka that it does not know warns, and does the same work."""

from pathlib import Path

import pytest

from goalworker.kafka import fast_fetch
from tests.kit import conversation, messages_in, worker_process

FORGED = "0.14.99"


@pytest.fixture
def forged_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let aiokafka have another version in every Python process that the test starts."""
    (tmp_path / "sitecustomize.py").write_text(f"import aiokafka\naiokafka.__version__ = {FORGED!r}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("forged_version")
async def test_an_unknown_version_of_aiokafka_is_warned_of_and_gives_the_same_results(
    there: worker_process.Installation,
) -> None:
    async with there.worker() as worker, conversation.talk(there) as talk:
        (line,) = worker.lines("fast_fetch_unavailable", level="warning")
        assert (line["aiokafka"], line["known_aiokafka"]) == (FORGED, list(fast_fetch.AIOKAFKA_VERSIONS))
        goal = await talk.goal("w", "form_submitted", form_id="f")
        enrollments = [messages_in.a_run("w") for _ in range(20)]
        at = messages_in.later(goal.created_at, 1)
        await talk.say(*(enrollment.started(at) for enrollment in enrollments))
        await talk.say(messages_in.Record("form_submitted", b"{"), messages_in.Record("form_submitted", None, b"key"))
        await talk.say(*(enrollment.submits("f", at) for enrollment in enrollments))
        await talk.settled()
        for enrollment in enrollments:
            assert conversation.kinds(await talk.heard(enrollment)) == [("goal.achieved", 1), ("exit.goal", None)]
        (letter,) = await talk.dead_letters()
        assert (letter.value, dict(letter.headers)["x-error-reason"]) == (b"{", b"invalid_json")
        topic = there.topics["form_submitted"]
        outcomes = ("matched", "dead_letter", "tombstone", "unmatched", "duplicate")
        counted = [worker.metric("events_total", topic=topic, outcome=outcome) for outcome in outcomes]
        assert counted == [20, 1, 1, 0, 0]
