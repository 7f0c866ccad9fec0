"""Names of the environment variables of settings, and examples of what they may hold."""

from pydantic.fields import FieldInfo

from goalworker.config import values


def variable(group: str, field: str) -> str:
    """Return the environment variable of a setting."""
    return f"GOALWORKER_{group}__{field}".upper()


def example(field: FieldInfo) -> str:
    """Return an example of a setting's value."""
    return str(field.examples[0]) if field.examples else values.shown(field.default)
