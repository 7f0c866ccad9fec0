"""`goalworker demo` as a user runs it: real servers, a real worker, and a table without differences."""

import asyncio
import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiokafka
import httpx
import pytest

from tests.kit.demo_process import Demo, demo


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that every user may enter, unlike tmp_path: under root, PostgreSQL runs as another user."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        yield Path(made) / "kept"


def _everything_matches(running: Demo) -> None:
    rows = running.rows()
    assert len(rows) >= 14, running.said
    assert all(expected == found and verdict == "matches" for expected, found, verdict in rows.values()), rows
    assert "Everything matches" in running.said


def _end_of_a_live_view(running: Demo) -> None:
    """Wait for the end of a run on a terminal, and check what its live view showed and left."""
    running.until(lambda: "Ctrl-C to stop and check" in running.said)
    running.until(lambda: bool(re.search(r"kill -9 \d+", running.said)))
    assert running.process.wait(120) == 0, running.said
    running_out = time.monotonic() + 5
    while "Everything matches" not in running.said:
        assert time.monotonic() < running_out, running.said
        time.sleep(0.05)
    assert "postgresql://" not in running.said
    *_, left = running.said.split("the check is done")  # the whole picture that stays in the scrollback
    assert [each for each in ("p50", "p99", "lag", "forms", "exits", "/docs", "╰") if each not in left] == []


@pytest.mark.unmeasured
def test_two_smoke_runs_on_the_same_data_find_exactly_the_expected_results(folder: Path) -> None:
    with demo("--smoke", "--seed", "11", "--keep", str(folder)) as running:
        assert running.process.wait(120) == 0, running.said
        _found_what_a_smoke_run_causes(running)
    with demo("--smoke", "--seed", "12", "--keep", str(folder), terminal=(80, 24)) as running:
        _end_of_a_live_view(running)
        _found_what_a_smoke_run_causes(running)
    assert (folder / "worker.log").stat().st_size > 0


def _found_what_a_smoke_run_causes(running: Demo) -> None:
    _everything_matches(running)
    assert re.search(r"/console/login\?code=[\w-]{22}", running.said)
    assert running.rows()["achievements in PostgreSQL"][0] > 300
    assert running.rows()["events of enrolled contacts in history"][0] > 700
    assert running.rows()["times of published exits in history"][0] > 200
    assert running.rows()["explanations of 60 enrollments by the API"][0] >= 60
    assert running.rows()["logins to the console by a link used twice"] == (1, 1, "matches")
    assert sum(what.startswith("dead letters") for what in running.rows()) == 7


def test_a_terminal_shows_a_live_view_with_the_pid_to_kill_and_no_password() -> None:
    with demo("--smoke", terminal=(120, 40)) as running:
        _end_of_a_live_view(running)
        _everything_matches(running)


@pytest.mark.unmeasured
def test_a_killed_worker_is_replaced_and_ctrl_c_ends_with_a_matching_table() -> None:
    with demo("--rate", "600", "--tenants", "2") as running:
        running.until(lambda: running.sent() > 1_000)
        (killed,) = running.ready_workers()
        os.kill(killed, signal.SIGKILL)
        running.until(lambda: f"worker {killed} is gone" in running.said)
        running.until(lambda: len(running.ready_workers()) == 2)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(150) == 0, running.said
        _everything_matches(running)
        assert "the worker died once" in running.said


class Reader:
    """A user who follows the README while the demo runs: goals by API, messages by any Kafka client."""

    def __init__(self, running: Demo) -> None:
        running.until(lambda: " is ready" in running.said and "export GW=" in running.said and "/env" in running.said)
        running.until(lambda: "api" in "".join(re.findall(r"(\w+) \d+ is ready", running.said)))
        (path,) = re.findall(r"for a shell: \. (\S+)", running.said)
        self._variables = dict(re.findall(r"^export (\w+)=(.*)$", Path(path).read_text(), re.MULTILINE))
        self._api = httpx.Client(base_url=self._variables["GW"], headers={"x-api-key": self._variables["KEY"]})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._api.close()

    def call(self, method: str, path: str, **body: object) -> Any:
        return self._api.request(method, f"/api/v1{path}", json=body or None).raise_for_status().json()

    def send(self, *messages: tuple[str, dict[str, Any] | bytes]) -> None:
        asyncio.run(self._send(messages))

    async def _send(self, messages: Sequence[tuple[str, dict[str, Any] | bytes]]) -> None:
        servers = self._variables["GOALWORKER_KAFKA__BOOTSTRAP_SERVERS"]
        async with aiokafka.AIOKafkaProducer(bootstrap_servers=servers) as producer:
            for topic, message in messages:
                value = message if isinstance(message, bytes) else json.dumps(message).encode()
                await producer.send_and_wait(topic, value, b"acme:c-17")

    def has_exit(self, enrollment_id: str) -> bool:
        answer = self._api.get(f"/api/v1/enrollments/{enrollment_id}")
        return answer.is_success and answer.json()["exit"] is not None


def _message(type_: str, id_: str, **data: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    envelope = {"specversion": "1.0", "id": id_, "source": "/mine", "type": type_, "time": now, "tenantid": "acme"}
    return {**envelope, "data": data}


@pytest.mark.unmeasured
def test_the_check_leaves_out_messages_of_the_users_own_integration() -> None:
    with demo("--rate", "100", "--seed", "3") as running, Reader(running) as reader:
        reader.call("POST", "/workflows/mine/goals", goal_type="purchase_made", criteria={"any_purchase": True})
        enrolled = {"workflow_id": "mine", "enrollment_id": "run-1", "contact_id": "c-17"}
        paid = {"contact_id": "c-17", "payment_id": "4711", "amount": "49.90", "currency": "EUR"}
        reader.send(("workflow-lifecycle", _message("workflow.enrollment.started", "e-1", **enrolled)))
        reader.send(("payment-completed", _message("payment.completed", "pay-4711", **paid)))
        running.until(lambda: reader.has_exit("run-1") and running.sent() > 500)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(150) == 0, running.said
        _everything_matches(running)
        assert re.search(r"not checked: caused by messages of other senders: 1 achievement, 1 exit", running.said)


@pytest.mark.unmeasured
def test_changes_to_the_demos_workflows_are_reported_and_are_not_differences() -> None:
    with demo("--rate", "100", "--seed", "4") as running, Reader(running) as reader:
        running.until(lambda: running.sent() > 500)
        reader.call("POST", "/workflows/welcome/goals", goal_type="tag_added", criteria={"tag_name": "other"})
        checkout = {"workflow_id": "checkout", "enrollment_id": "run-2", "contact_id": "c-17"}
        signed_up = {"contact_id": "contact-1", "form_id": "kick-off"}
        reader.send(
            ("workflow-lifecycle", _message("workflow.enrollment.started", "e-2", **checkout)),
            ("workflow-lifecycle", _message("workflow.deactivated", "e-3", workflow_id="upsell")),
            ("workflow-lifecycle", b"{"),
            ("form-submitted", _message("form.submitted", "f-1", **signed_up)),
            ("form-submitted", _message("form.submitted", "f-2", contact_id="contact-2")),
            ("workflow-exit", b"\xff"),
        )
        reader.call("GET", "/workflows/newsletter/goals/stats")
        sent = running.sent()
        running.until(lambda: running.sent() > sent + 300)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(150) == 0, running.said
        assert "Everything matches" in running.said, running.said
        assert re.search(r"caused by messages of other senders: 2 dead letters, 1 violation", running.said)
        assert re.search(r"enrollments of welcome of acme: somebody else changed the workflow", running.said)
        assert re.search(r"enrollments of upsell of acme: ", running.said)
        assert "statistics of checkout of acme: other senders take part in it" in running.said
