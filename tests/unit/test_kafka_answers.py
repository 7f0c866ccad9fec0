"""Questions of the console to Kafka: what may wait, what is answered at once, and what lag never waits for."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goalworker import config
from goalworker.console import kafka_answers
from goalworker.inspection import dead_letter_reading, lag_report, open_letters
from goalworker.stores import answer_cache

AT_ONCE = answer_cache.BriefCache.NEW_AT_ONCE
WAITING_MAX = answer_cache.BriefCache.WAITING_MAX
PREVIEW = open_letters.Preview(counts=Counter(), expiring=0, first=[])
ROWS: list[dict[str, Any]] = [{"partition": 0, "lag": 7}]


class Broker:
    """A stand-in for Kafka whose previews take until they are let go, while lag is known at once."""

    def __init__(self) -> None:
        self.previews = 0
        self.gate = asyncio.Event()

    async def preview(self, *_: object) -> open_letters.Preview:
        self.previews += 1
        await self.gate.wait()
        return PREVIEW

    async def rows(self, *_: object) -> list[dict[str, Any]]:
        return ROWS


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(open_letters, "preview", broker.preview)
    monkeypatch.setattr(lag_report, "rows", broker.rows)
    return broker


@pytest.fixture
def answers() -> kafka_answers.KafkaAnswers:
    kafka = config.Settings().kafka.model_copy(update={"bootstrap_servers": "nowhere:9092"})
    return kafka_answers.KafkaAnswers(config.Settings().model_copy(update={"kafka": kafka}))


def selection(number: int, tenant_id: str = "acme") -> dead_letter_reading.Selection:
    since = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return dead_letter_reading.Selection(since=since, tenant_id=tenant_id)


async def test_lag_is_answered_while_previews_take_every_slot(
    answers: kafka_answers.KafkaAnswers, broker: Broker
) -> None:
    asking = [asyncio.create_task(answers.preview(selection(number))) for number in range(AT_ONCE + 1)]
    await asyncio.sleep(0.01)
    assert await answers.lag() == ROWS
    broker.gate.set()
    assert await asyncio.gather(*asking) == [PREVIEW] * (AT_ONCE + 1)


async def test_one_question_too_many_is_answered_at_once_and_only_to_its_tenant(
    answers: kafka_answers.KafkaAnswers, broker: Broker
) -> None:
    asking = []
    for number in range(AT_ONCE + WAITING_MAX):
        asking.append(asyncio.create_task(answers.preview(selection(number))))
        await asyncio.sleep(0.001)
    assert await answers.preview(selection(100)) == kafka_answers.TOO_MANY
    other = asyncio.create_task(answers.preview(selection(0, "globex")))
    broker.gate.set()
    assert await other == PREVIEW
    assert await asyncio.gather(*asking) == [PREVIEW] * len(asking)


async def test_a_preview_whose_request_timed_out_is_never_read(
    answers: kafka_answers.KafkaAnswers, broker: Broker
) -> None:
    busy = [asyncio.create_task(answers.preview(selection(number))) for number in range(AT_ONCE)]
    await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(answers.preview(selection(100)), 0.01)
    broker.gate.set()
    await asyncio.gather(*busy)
    await asyncio.sleep(0.01)
    assert broker.previews == AT_ONCE
