"""Sentences about goals, for each goal type and each setting."""

from typing import Any

import pytest

from goalworker.domain import criteria, criteria_parsing, goal_sentences


@pytest.mark.parametrize(
    ("goal_type", "given", "sentence"),
    [
        ("tag_added", {"tag_id": "t1"}, "A contact gets the tag t1."),
        ("tag_added", {"tag_id": ["b", "a"], "tag_name": "VIP"}, 'A contact gets the tag "VIP" (a or b).'),
        ("purchase_made", {"any_purchase": True}, "A contact pays."),
        ("purchase_made", {"currency": "eur"}, "A contact pays in EUR."),
        (
            "purchase_made",
            {"min_amount": "49.90", "currency": "EUR", "product_id": ["p2", "p1"], "times": 3, "within": "P30D"},
            "A contact pays at least 49.90 EUR for the product p1 or p2, 3 times within 30 days.",
        ),
        (
            "purchase_made",
            {"total_amount": 500, "currency": "EUR", "deadline": "PT36H", "reversals": "keep"},
            "A contact pays 500 EUR in total, no later than 1 day and 12 hours after the enrollment; "
            "a reversal does not take it back.",
        ),
        ("appointment_booked", {"any_appointment": True}, "A contact books an appointment."),
        (
            "appointment_booked",
            {"calendar_id": "c1", "service_id": "s1", "correlate_by": "appointment_id"},
            "A contact books an appointment in the calendar c1 for the service s1, with the enrollment's "
            "correlation_id as appointment_id.",
        ),
        ("form_submitted", {"form_id": "f1"}, "A contact submits the form f1."),
        (
            "pipeline_stage_reached",
            {"pipeline_id": "sales", "stage_id": "won"},
            "A contact reaches the stage won of the pipeline sales.",
        ),
        ("tag_added", {"tag_id": "a\u202eb"}, "A contact gets the tag a\\u202eb."),
    ],
)
def test_a_sentence_says_all_of_the_criteria(goal_type: str, given: dict[str, Any], sentence: str) -> None:
    parsed = criteria_parsing.parse_criteria(goal_type, given)
    assert goal_sentences.sentence(goal_type, criteria.criteria_to_json(goal_type, parsed)) == sentence
