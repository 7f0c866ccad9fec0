"""JSON that people write: every number is exact, and what cannot be used is refused in a sentence."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any, Never


class NotJsonError(ValueError):
    """The text is no JSON, or none that can be used; the sentence says why."""


def decode(text: str | bytes) -> Any:
    """Decode UTF-8 JSON, numbers as int or Decimal; of a key that comes twice, the last counts. NotJsonError."""
    try:
        given = text.decode() if isinstance(text, bytes) else text
        return json.loads(given, parse_float=Decimal, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise NotJsonError(f"it is not UTF-8: byte {error.start} is wrong") from None
    except RecursionError:
        raise NotJsonError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise NotJsonError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except NotJsonError:
        raise
    except (ValueError, InvalidOperation):  # int() and Decimal() have their limits
        raise NotJsonError("a number in it has too many digits") from None


def _refuse(constant: str) -> Never:
    raise NotJsonError(f"{constant} is no JSON")
