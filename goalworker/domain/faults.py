"""Faults in input that people write: a JSON pointer and a sentence."""

from collections.abc import Mapping
from decimal import Decimal

from msgspec import Struct


class Fault(Struct, frozen=True):
    """A fault in some input: its location as a JSON pointer, and a sentence that states the rule."""

    pointer: str
    detail: str


def fault(name: str, rule: str, value: object) -> Fault:
    """Return the fault of a field whose value breaks a rule."""
    return Fault(f"/{name}", f"`{name}` {rule}; got {shown(value)}")


def shown(value: object) -> str:
    """Return a rejected value as the sentence about it shows it: at most 64 characters."""
    match value:
        case None | bool():
            return "null" if value is None else str(value).lower()
        case str():
            return f'"{printable(value[:64])}"'
        case int() if value.bit_length() > 256:
            return "a number of many digits"
        case int() | float() | Decimal():
            return str(value)[:64]
        case Mapping():
            return "an object"
        case _:
            return "a list"


def printable(text: str) -> str:
    """Return a text that is safe to encode and to show: lone surrogates and control characters become escapes."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def pointer(name: str) -> str:
    """Return a name as a token of a JSON pointer."""
    return name.encode(errors="backslashreplace").decode().replace("~", "~0").replace("/", "~1")
