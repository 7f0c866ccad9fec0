"""Data as senders write it, where its struct differs from the one that an Event holds (contract section 2)."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from msgspec import Raw, Struct, json, structs

from goalworker.domain import events
from goalworker.domain.text import (
    AMOUNT_RULE,
    CURRENCY_RULE,
    TEXT_BYTES_MAX,
    TIME_RULE,
    Text,
    is_currency,
    is_valid_text,
    parse_amount,
    parse_json_amount,
)


class InvalidFieldError(ValueError):
    """A field that breaks a rule; path is its location in the structured form of the event."""

    def __init__(self, reason: str, path: str, rule: str) -> None:
        super().__init__(f"`{path.rpartition('/')[2]}` {rule}" if path else f"the value {rule}")
        self.reason = reason
        self.path = path


RULES: Final[Mapping[str, str]] = {
    "specversion": 'must be "1.0"',
    "time": TIME_RULE,
    "amount": AMOUNT_RULE,
    "currency": CURRENCY_RULE,
    "started_by": "must be an object with the texts `source` and `id`",
    "product_ids": (
        f"must be a list of at most {events.PRODUCT_IDS_MAX} texts of 1 to {TEXT_BYTES_MAX} bytes, or integers"
    ),
}
"""Rules of fields by name, in the words in which a faulty one is refused; TEXT_RULE holds for every other field, and
lenient.ID_RULE for ids in `data`."""


ABSENT: Final = Raw(b"null")
"""The value of a raw field that is absent; null means the same."""


class _Payment(Struct, gc=False):
    """PaymentCompleted with the amount still raw, because a float would lose digits of a number."""

    contact_id: Text
    payment_id: Text
    amount: Raw
    currency: Text
    product_ids: events.ProductIds | None = None
    correlation_id: Text | None = None
    test: bool | None = None


_AMOUNT_BYTES_MAX: Final = 512
_STRING: Final = json.Decoder(str)


def _finish_payment(payment: _Payment) -> events.PaymentCompleted:
    token, currency = bytes(payment.amount), payment.currency
    amount = _amount(token) if len(token) <= _AMOUNT_BYTES_MAX else None
    if amount is None:
        raise InvalidFieldError("invalid_data", "data/amount", AMOUNT_RULE)
    if not is_currency(currency):
        raise InvalidFieldError("invalid_data", "data/currency", CURRENCY_RULE)
    return events.PaymentCompleted(
        payment.contact_id,
        payment.payment_id,
        amount,
        currency,
        payment.product_ids,
        payment.correlation_id,
        payment.test,
    )


@lru_cache(maxsize=8192)  # prices come again and again
def _amount(token: bytes) -> Decimal | None:
    if token.startswith(b'"'):
        return parse_amount(_STRING.decode(token))
    return parse_json_amount(token.decode())


class _Refund(Struct, gc=False):
    """PaymentRefunded with the amount still raw."""

    contact_id: Text
    payment_id: Text
    refund_id: Text | None = None
    amount: Raw = ABSENT
    currency: Text | None = None
    test: bool | None = None


def _finish_refund(refund: _Refund) -> events.PaymentRefunded:
    contact_id, payment_id, refund_id = refund.contact_id, refund.payment_id, refund.refund_id
    currency = refund.currency
    if refund.amount == ABSENT and currency is None:
        return events.PaymentRefunded(contact_id, payment_id, refund_id, test=refund.test)
    if currency is None:
        raise _half_of_refund("currency", "amount")
    if refund.amount == ABSENT:
        raise _half_of_refund("amount", "currency")
    # Its amount and currency follow the rules of a payment's.
    same = _finish_payment(_Payment(contact_id, payment_id, refund.amount, currency))
    return events.PaymentRefunded(contact_id, payment_id, refund_id, same.amount, same.currency, refund.test)


def _half_of_refund(missing: str, given: str) -> InvalidFieldError:
    rule = f"is missing beside `{given}`; give both, or neither for a refund of the whole payment"
    return InvalidFieldError("invalid_data", f"data/{missing}", rule)


def _finish_tag(tag: events.TagAdded) -> events.TagAdded:
    if tag.tag_id is None and tag.tag_name is None:
        raise InvalidFieldError(
            "invalid_data", "data/tag_id", "is missing, and so is `tag_name`; one of them is needed"
        )
    return tag


class _EnrollmentEnded(Struct, gc=False):
    """EnrollmentChanged without the fields of a start, which are unknown ones here and thus ignored."""

    workflow_id: Text
    enrollment_id: Text
    contact_id: Text
    reason: Text | None = None


def _finish_ended(ended: _EnrollmentEnded) -> events.EnrollmentChanged:
    return events.EnrollmentChanged(ended.workflow_id, ended.enrollment_id, ended.contact_id, ended.reason)


Data = events.GoalData | events.ReversalData | events.LifecycleData
Reader = Callable[[Raw], Data]
Finish = Callable[[Any], Data]

WIRE: Final[Mapping[str, type]] = {
    **events.DATA_OF_TYPE,
    "payment.completed": _Payment,
    events.PAYMENT_REFUNDED: _Refund,
    events.ENROLLMENT_ENDED: _EnrollmentEnded,
}
"""Structs as which the data of each CloudEvents type is read."""

FINISH: Final[Mapping[str, Finish]] = {
    "payment.completed": _finish_payment,
    events.PAYMENT_REFUNDED: _finish_refund,
    "contact.tag.added": _finish_tag,
    events.ENROLLMENT_ENDED: _finish_ended,
}
"""Functions that turn such a struct into the event's data, or raise InvalidFieldError; other types need none."""


def has_valid_texts(value: object) -> bool:
    """Say whether every text in a value is valid (contract section 1)."""
    if isinstance(value, str):
        return is_valid_text(value)
    if isinstance(value, Struct):
        value = structs.astuple(value)
    return not isinstance(value, tuple) or all(map(has_valid_texts, value))
