"""Decoding of JSON that people write: numbers stay exact, and bad JSON is refused with a sentence."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any, Never


class NotJsonError(ValueError):
    """A text that is not JSON, or that breaks a limit; the sentence says which."""


def decode(text: str | bytes) -> Any:
    """Decode UTF-8 JSON, numbers as int or Decimal; the last of several equal keys counts. Raises NotJsonError."""
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
    except (ValueError, InvalidOperation):  # int() and Decimal() limit the number of digits
        raise NotJsonError("a number in it has too many digits") from None


def _refuse(constant: str) -> Never:
    raise NotJsonError(f"{constant} is not JSON")
