"""Metadata of the schema, and the columns that its tables are made of."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def id_(name: str, *, primary_key: bool = False, nullable: bool = False) -> sa.Column[str]:
    """Return a column of an id, which sorts by code point."""
    return sa.Column(name, sa.Text(collation="C"), primary_key=primary_key, nullable=nullable)


def uuid_(name: str, *, primary_key: bool = False, nullable: bool = False) -> sa.Column[object]:
    """Return a column of a UUID."""
    return sa.Column(name, pg.UUID(as_uuid=True), primary_key=primary_key, nullable=nullable)


def time_(name: str, *, primary_key: bool = False, nullable: bool = False) -> sa.Column[object]:
    """Return a column of a moment."""
    return sa.Column(name, sa.DateTime(timezone=True), primary_key=primary_key, nullable=nullable)


def text_(name: str, *, nullable: bool = False) -> sa.Column[str]:
    """Return a column of text."""
    return sa.Column(name, sa.Text, nullable=nullable)


def flag_(name: str) -> sa.Column[bool]:
    """Return a column that is false unless it is set."""
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())
