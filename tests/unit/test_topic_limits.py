"""The largest message to each topic is known to the byte, so that a topic that is too small is found beforehand."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker import config
from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.domain import events, facts, ids, messages
from goalworker.domain.text import is_valid_text
from goalworker.kafka import producer
from goalworker.pipeline import outbox, topic_limits
from tests.kit import strategies

SETTINGS = config.load({}, env_file=None, secrets_dir=None)
MOMENT = datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
GOAL = topic_limits._GOAL


def size_of(message: messages.Message) -> int:
    return producer.batch_size(outbox.record_of(message, message.topic))


@dataclass
class Sender:
    """Sender of events that are as large as the contract allows."""

    text: str

    def value(self) -> bytes:
        data = {
            "contact_id": self.text,
            "payment_id": self.text,
            "amount": "1000000000000000.000000000000000000",
            "currency": "EUR",
            "product_ids": [self.text] * events.PRODUCT_IDS_MAX,
            "correlation_id": self.text,
            "test": True,
        }
        attributes: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.text,
            "source": self.text,
            "type": "payment.completed",
            "time": "2026-12-31T23:59:59.999999Z",
            "tenantid": self.text,
        }
        return json.dumps({**attributes, "data": data}, ensure_ascii=False).encode()

    def event(self) -> events.Event:
        headers = tuple((name, b"x" * 512) for name in ("traceparent", "tracestate"))
        decoder = Decoder(SETTINGS.topics.event_types, Limits(test_events="count"))
        found = decoder.decode("payment-completed", self.value(), headers, 0, MOMENT)
        assert isinstance(found, events.Event), found
        return found


def test_the_largest_event_that_is_taken_makes_the_largest_message_to_the_byte() -> None:
    event = Sender('"' * 255).event()
    assert isinstance(event.data, events.PaymentCompleted)
    workflow_id = "\\" * 255
    enrollment_id = ids.contact_enrollment_id(workflow_id, event.data.contact_id)
    run = facts.Enrollment(event.tenant_id, enrollment_id, workflow_id, event.data.contact_id, MOMENT)
    achievement = facts.Achievement(GOAL, 2**31 - 1, MOMENT, facts.trigger_of(event), 2**31 - 1)
    message = messages.achieved(run, "purchase_made", achievement)
    assert size_of(message) == topic_limits.largest()[messages.GOAL_ACHIEVED]


TEXTS = st.text(st.sampled_from('"\\a/é€ü '), min_size=1, max_size=255).filter(is_valid_text)


@given(TEXTS, TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=20), strategies.ticks)
def test_no_message_is_larger_than_the_largest(
    tenant_id: str, workflow_id: str, contact_id: str, enrollment_id: str, products: list[str], tick: int
) -> None:
    data = events.PaymentCompleted(contact_id, enrollment_id, Decimal(tick), "EUR", tuple(products), contact_id)
    event = events.Event(tenant_id, workflow_id, contact_id, "payment.completed", MOMENT, data, "00", "v=1")
    run = facts.Enrollment(tenant_id, enrollment_id, workflow_id, contact_id, strategies.at(tick))
    achievement = facts.Achievement(GOAL, 1, MOMENT, facts.trigger_of(event), 1)
    goal_type, criteria = "form_submitted", {"form_id": contact_id}
    description = {"workflow_id": workflow_id, "goal_type": goal_type, "criteria": criteria, "is_active": True}
    largest = topic_limits.largest()
    for message in (
        messages.achieved(run, "purchase_made", achievement),
        messages.revoked(run, "pipeline_stage_reached", achievement, "after_end", MOMENT),
        messages.exit_goal(run, "pipeline_stage_reached", facts.Exit(GOAL, "all", MOMENT, (GOAL,) * 3, "00", "v")),
        messages.configured(tenant_id, GOAL, 1, "updated", MOMENT, description),
        messages.lifecycle(events.ENROLLMENT_ENDED, run, MOMENT),
    ):
        assert size_of(message) <= largest[message.topic]


@pytest.mark.parametrize(("below", "found"), [(0, 0), (1, 1)])
def test_a_topic_one_byte_too_small_is_named_with_what_it_needs(below: int, found: int) -> None:
    needed = topic_limits.largest()[messages.WORKFLOW_EXIT]
    limits = {"workflow-exit": needed - below, "goal-achieved": 10_000_000, "goal-configured": 10_000_000}
    named = topic_limits.too_small(SETTINGS, limits)
    assert [each.topic for each in named] == ["workflow-exit"] * found
    assert all(f"at least {needed}" in str(each) for each in named)


def test_kafkas_own_default_is_enough_for_every_topic() -> None:
    assert max(topic_limits.largest().values()) < 1_048_588


def test_the_guide_to_deploying_names_the_largest_message() -> None:
    guide = (Path(__file__).parents[2] / "deploy" / "README.md").read_text()
    assert f"{topic_limits.largest()[messages.GOAL_ACHIEVED]:,} bytes" in guide
