"""The check for planted texts in logs, which ends every test with an installation, finds them."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults import workers
from tests.faults.sending import PLANTED
from tests.kit import worker_process

THERE = worker_process.Installation("kafka:9092", "postgresql://ann:secret-word@db/goalworker", {}, Path())


@pytest.mark.parametrize("said", [f"a contact {PLANTED}-contact-3", "connecting to ann:secret-word@db"])
def test_a_log_line_with_a_planted_text_is_found(said: str, tmp_path: Path) -> None:
    (tmp_path / "worker-1.log").write_text('{"event": "starting"}\n')
    (tmp_path / "worker-2.log").write_text(f'{{"event": "starting"}}\n{said}\n')
    assert workers.leaks(replace(THERE, folder=tmp_path)) == [said]
