"""Faults in what people write: a JSON pointer and a sentence."""

from collections.abc import Mapping
from decimal import Decimal

from msgspec import Struct


class Fault(Struct, frozen=True):
    """One thing that is wrong with what somebody gave, where (a JSON pointer), and what would be right."""

    pointer: str
    detail: str


def fault(name: str, rule: str, value: object) -> Fault:
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
    """Return a text that can be encoded and shown: lone surrogates and control characters are spelt out."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def pointer(name: str) -> str:
    return name.encode(errors="backslashreplace").decode().replace("~", "~0").replace("/", "~1")
