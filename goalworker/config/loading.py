"""Loading of settings: from the environment, a .env file and a directory of secrets, with a sentence for each fault.

Of pydantic-settings only the reader of .env files is used. Its source of environment variables drops a name whose group
is misspelt, reports others without the place where they stand, and takes a whole group as JSON from one variable, a
second way to set everything. Its nested source of secrets reads every file below /run/secrets, the token of a service
account included. Wrapping all three would take more code than the reading itself.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pydantic
from pydantic.fields import FieldInfo
from pydantic_settings import DotEnvSettingsSource

from goalworker import errors
from goalworker.config import variables
from goalworker.config.settings import Settings

PREFIX: Final = "GOALWORKER_"
_DELIMITER: Final = "__"
_TEST_PREFIX: Final = "GOALWORKER_TEST_"
"""Prefix of the names by which the tests find a broker and a database."""


class Setting(NamedTuple):
    """One setting: its group and its field there."""

    group: str
    field: str
    info: FieldInfo

    @property
    def is_secret(self) -> bool:
        """True for a secret and for a URL that may hold a password: such a value is never quoted."""
        return not self.info.repr or "SecretStr" in str(self.info.annotation)


class _Value(NamedTuple):
    text: str
    place: str
    """The place for a sentence about a wrong value."""
    source: str
    """The place for the list of all settings."""


def _settings() -> dict[str, Setting]:
    return {
        variables.variable(group, field): Setting(group, field, info)
        for group, group_info in Settings.model_fields.items()
        for field, info in type(group_info.default).model_fields.items()
    }


SETTINGS: Final[Mapping[str, Setting]] = _settings()
"""Every setting by the name of its variable, in the order of the groups."""


def load(
    env: Mapping[str, str] | None = None,
    *,
    env_file: str | Path | None = ".env",
    secrets_dir: str | Path | None = "/run/secrets",
) -> Settings:
    """Read the settings: the environment wins over the .env file, that over the secrets; empty is the same as unset.

    Raises SettingsError with a sentence for each fault.
    """
    values = _read(os.environ if env is None else env, env_file, secrets_dir)
    nested: dict[str, dict[str, str]] = {}
    for name, setting in SETTINGS.items():
        if name in values:
            nested.setdefault(setting.group, {})[setting.field] = values[name].text
    unknown = [name for name in values if name not in SETTINGS and not name.startswith(_TEST_PREFIX)]
    faults = [_unknown(name, values[name].place) for name in unknown if _DELIMITER in name]
    try:
        settings = Settings.model_validate(nested)
    except pydantic.ValidationError as error:
        raise _refused([*faults, *_sentences(error, values)]) from None
    if faults:
        raise _refused(faults)
    settings._ignored_names = tuple(unknown)
    settings._sources = {name: values[name].source for name in SETTINGS if name in values}
    return settings


def _read(env: Mapping[str, str], env_file: str | Path | None, secrets_dir: str | Path | None) -> dict[str, _Value]:
    """Return the values that are set, by name in upper case; of the places, a later one wins."""
    places: tuple[tuple[str, str, Mapping[str, str | None]], ...] = (
        (str(secrets_dir), f"secrets file {secrets_dir}/{{}}", _read_secrets(secrets_dir)),
        (str(env_file), str(env_file), _read_env_file(env_file)),
        ("the environment", "environment", env),
    )
    return {
        name.upper(): _Value(text, place, source.replace("{}", name))
        for place, source, variables in places
        for name, text in variables.items()
        if text and name.upper().startswith(PREFIX)
    }


def _read_env_file(path: str | Path | None) -> Mapping[str, str | None]:
    try:
        return DotEnvSettingsSource(Settings, env_file=path).env_vars
    except (OSError, UnicodeDecodeError) as error:
        raise errors.SettingsError(f"{path} cannot be read as UTF-8 lines of NAME=value: {error}") from error


def _read_secrets(directory: str | Path | None) -> dict[str, str | None]:
    """Read the files that are named like variables, and leave the rest of the directory alone."""
    secrets: dict[str, str | None] = {}
    path = Path(directory or "")
    try:
        for path in Path(directory).iterdir() if directory and Path(directory).is_dir() else ():
            if path.name.upper().startswith(PREFIX) and path.is_file():
                secrets[path.name] = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise errors.SettingsError(f"{path} cannot be read: {reason}") from None
    return secrets


def _refused(faults: list[str]) -> errors.SettingsError:
    if len(faults) == 1:
        return errors.SettingsError(faults[0])
    return errors.SettingsError("\n".join([f"{len(faults)} settings are wrong:", *(f"  {line}" for line in faults)]))


def _unknown(name: str, place: str) -> str:
    names = [name.removeprefix(PREFIX) for name in SETTINGS]
    near = difflib.get_close_matches(name.removeprefix(PREFIX), names, n=1)
    advice = f"did you mean {PREFIX}{near[0]}?" if near else "`goalworker config docs` lists all settings"
    return f"{name} in {place} is not a setting; {advice}"


def _sentences(error: pydantic.ValidationError, values: Mapping[str, _Value]) -> Iterator[str]:
    for detail in error.errors(include_url=False):
        # A group's own checks write whole sentences.
        reason = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else _reason(detail["msg"])
        if len(detail["loc"]) == 1:
            yield from reason.splitlines()
            continue
        name = variables.variable(*map(str, detail["loc"][:2]))
        setting, value = SETTINGS[name], values[name]
        quoted = "" if setting.is_secret else f"={value.text!r}"
        yield f"{name}{quoted} in {value.place}: {reason}; for example {name}={variables.example(setting.info)}"


def _reason(message: str) -> str:
    return message.replace("Input should", "it should").replace("String should", "it should")
