"""Rows as parameters, one per column: asyncpg looks at each element of a list three times, which costs ten times more.

Two encodings avoid that. Texts are joined by a separator; other values are written as JSON, which PostgreSQL reads as
an array.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from msgspec import json

# No text from outside has a control character.
_SEPARATOR: Final = "\x1f"
_ENCODER: Final = json.Encoder()

Row = TypeVar("Row")
Values = Callable[[Sequence[Row]], Sequence[Any]]
"""Return the values of one column, one for each row."""


def texts(column: Sequence[str], separator: str = _SEPARATOR) -> str:
    """Return texts that are not empty as one text; ValueError where it would come apart otherwise."""
    joined = separator.join(column)
    if joined.count(separator) != max(len(column) - 1, 0) or (column and not joined):
        raise ValueError("a text that is empty or has a control character")
    return joined


def array_of_texts(number: int, separator: str = _SEPARATOR) -> str:
    """Return SQL for the array of texts that a parameter is."""
    # A planner that knew how many there are would read the whole table rather than look them up, up to some 100,000.
    return f"string_to_array((SELECT ${number}), '{separator}')"


def array(column: Sequence[object]) -> str:
    """Return what has no control characters as PostgreSQL reads an array: as JSON, but for the brackets."""
    return f"{{{_ENCODER.encode(column)[1:-1].decode()}}}"


def rows_of(source: str, names: Sequence[str], alias: str) -> str:
    """Return SQL for columns of a CTE, which may come with a condition, as a table.

    The planner cannot know how many rows an array has, so it looks them up one by one; for a CTE it might read the
    whole table that it is joined with.
    """
    columns = ", ".join(f"ARRAY(SELECT {name} FROM {source})" for name in names)
    return f"unnest({columns}) AS {alias} ({', '.join(names)})"


def same(table: str, other: str, names: Sequence[str]) -> str:
    """Return the condition that two rows have the same values."""
    return " AND ".join(f"{table}.{name} = {other}.{name}" for name in names)


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column of rows: its name, its values, how they are encoded, and SQL for the array that the parameter is.

    cast is the type to which a statement casts each element; it is empty where the array has the column's type.
    """

    name: str
    values: Values[Row]
    encode: Callable[[Sequence[Any]], object]
    array_sql: Callable[[int], str]
    cast: str = ""


def text(name: str, values: Values[Row], cast: str = "") -> Column[Row]:
    """Return a column of texts that are not empty and have no control characters."""
    return Column(name, values, texts, array_of_texts, cast)


def typed(name: str, type_: str, values: Values[Row]) -> Column[Row]:
    """Return a column of values without control characters, None among them; the planner sees how many there are."""
    return Column(name, values, array, lambda number: f"${number}::text::{type_}[]")


def hidden(name: str, type_: str, values: Values[Row]) -> Column[Row]:
    """Return a column as typed() does, but hide from the planner how many values there are."""
    return Column(name, values, array, lambda number: f"(SELECT ${number}::text)::{type_}[]")


def plain(name: str, type_: str, values: Values[Row]) -> Column[Row]:
    """Return a column whose values asyncpg encodes, whatever they are: for statements with few rows."""
    return Column(name, values, list, lambda number: f"${number}::{type_}[]")


class Columns(Generic[Row]):
    """The columns of a statement's rows, from which its SQL and its arguments are made.

    first is the number of the parameter that the first column is.
    """

    def __init__(self, *columns: Column[Row], first: int = 1) -> None:
        self._columns = columns
        self.names = ", ".join(column.name for column in columns)
        self.selected = ", ".join(f"{column.name}::{column.cast}" if column.cast else column.name for column in columns)
        self.arrays = ", ".join(column.array_sql(number) for number, column in enumerate(columns, first))
        self.next = first + len(columns)

    def unnested(self, alias: str) -> str:
        """Return SQL for the rows as a table."""
        return f"unnest({self.arrays}) AS {alias} ({self.names})"

    def arguments(self, rows: Sequence[Row]) -> list[object]:
        """Return the parameters, in the order of the columns."""
        return [column.encode(column.values(rows)) for column in self._columns]


def keys(*names: str, first: int = 1) -> Columns[tuple[str, ...]]:
    """Return columns of texts for rows that are tuples of them."""
    return Columns(*(text(name, _item(position)) for position, name in enumerate(names)), first=first)


def plain_keys(*names: str) -> Columns[tuple[str, ...]]:
    """Return columns as keys() does, of texts that asyncpg encodes."""
    return Columns(*(plain(name, "text", _item(position)) for position, name in enumerate(names)))


def _item(position: int) -> Values[tuple[str, ...]]:
    return lambda rows: [row[position] for row in rows]
