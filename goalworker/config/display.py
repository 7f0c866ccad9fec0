"""Settings as people read them: defaults and meanings, effective values, and where each value comes from."""

from collections import Counter
from typing import NamedTuple

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from goalworker.config import values
from goalworker.config.loading import SETTINGS
from goalworker.config.settings import Settings


class Row(NamedTuple):
    """A setting in the table of all settings."""

    name: str
    default: str
    description: str


def table() -> list[Row]:
    """Return every setting with its default and its meaning, in the order of the groups."""
    return [Row(name, _default(setting.info), setting.info.description or "") for name, setting in SETTINGS.items()]


def masked(settings: Settings) -> dict[str, str]:
    """Return every setting's effective value by name, secrets and passwords in URLs masked, nothing where unset."""
    return {
        name: _shown(getattr(getattr(settings, setting.group), setting.field), setting.info)
        for name, setting in SETTINGS.items()
    }


def sources(settings: Settings) -> dict[str, str]:
    """Return the source of each setting's value by name: `default`, `environment`, `.env` or a secrets file."""
    return {name: settings.sources.get(name, "default") for name in SETTINGS}


def sources_in_short(settings: Settings) -> str:
    """Return the number of settings from each kind of source, as a phrase."""
    kinds = Counter(source.partition(" /")[0] for source in sources(settings).values())
    return ", ".join(
        f"{count} from {kind}" for kind, count in sorted(kinds.items(), key=lambda item: item[0] == "default")
    )


def _default(info: FieldInfo) -> str:
    extra = info.json_schema_extra
    return str(extra["shown_default"]) if isinstance(extra, dict) else values.shown(info.default)


def _shown(value: object, info: FieldInfo) -> str:
    if value is None:
        return _default(info)
    if info.repr:
        return values.shown(value)
    return values.masked_url(value.get_secret_value() if isinstance(value, SecretStr) else str(value))
