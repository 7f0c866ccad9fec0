"""JSON that people write: every number is exact, and what cannot be used is refused in a sentence."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any, Never


def decode(text: str | bytes) -> Any:
    """Decode UTF-8 JSON, numbers as int or Decimal, of a key that comes twice the last; ValueError says what is wrong."""
    try:
        return json.loads(
            text.decode() if isinstance(text, bytes) else text, parse_float=Decimal, parse_constant=_refuse
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: byte {error.start} is wrong") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except (ValueError, InvalidOperation):  # int() and Decimal() have limits
        raise ValueError("a number in it has too many digits") from None


def _refuse(constant: str) -> Never:
    raise json.JSONDecodeError(f"{constant} is no JSON", "", 0)
