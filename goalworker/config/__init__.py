"""All settings: read, checked, shown, and turned into what the clients want (contract section 6)."""

import collections
import difflib
import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pydantic
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import DotEnvSettingsSource

from goalworker import errors
from goalworker.config import groups, values
from goalworker.config.groups import Settings, Topics

__all__ = [
    "Row",
    "Settings",
    "Topics",
    "kafka_client_options",
    "load",
    "masked",
    "sources",
    "sources_in_short",
    "table",
]

PREFIX: Final = "GOALWORKER_"
DELIMITER: Final = "__"
METADATA_MAX_AGE_MS: Final = 30_000
"""So soon a partition that was added is read."""
# What the tests find a broker and a database by.
TEST_PREFIX: Final = "GOALWORKER_TEST_"


class Row(NamedTuple):
    """One line of the table of settings."""

    name: str
    default: str
    description: str


class _Setting(NamedTuple):
    group: str
    field: str
    info: FieldInfo


class _Found(NamedTuple):
    value: str
    place: str
    source: str


def _settings() -> dict[str, _Setting]:
    return {
        groups.variable(group, field): _Setting(group, field, info)
        for group, group_info in Settings.model_fields.items()
        for field, info in type(group_info.default).model_fields.items()
    }


_KNOWN: Final = _settings()


def load(
    env: Mapping[str, str] | None = None,
    *,
    env_file: str | Path | None = ".env",
    secrets_dir: str | Path | None = "/run/secrets",
) -> Settings:
    """Read the settings: the environment wins over the .env file, that over the secrets; empty is the same as unset.

    Raises SettingsError with a sentence for everything that is wrong.
    """
    found = _found(os.environ if env is None else env, env_file, secrets_dir)
    nested: dict[str, dict[str, str]] = {}
    for name, setting in _KNOWN.items():
        if name in found:
            nested.setdefault(setting.group, {})[setting.field] = found[name].value
    unknown = [name for name in found if name not in _KNOWN and not name.startswith(TEST_PREFIX)]
    problems = [_unknown(name, found[name].place) for name in unknown if DELIMITER in name]
    try:
        settings = Settings.model_validate(nested)
    except pydantic.ValidationError as error:
        raise _refused([*problems, *_sentences(error, found)]) from None
    if problems:
        raise _refused(problems)
    settings._ignored_names = tuple(unknown)
    settings._sources = {name: found[name].source for name in _KNOWN if name in found}
    return settings


def _found(env: Mapping[str, str], env_file: str | Path | None, secrets_dir: str | Path | None) -> dict[str, _Found]:
    """Return what is set, by name in upper case, with where it is set; what comes later wins."""
    places: tuple[tuple[str, str, Mapping[str, str | None]], ...] = (
        (str(secrets_dir), f"secrets file {secrets_dir}/{{}}", _secrets(secrets_dir)),
        (str(env_file), str(env_file), _env_file(env_file)),
        ("the environment", "environment", env),
    )
    return {
        name.upper(): _Found(value, place, source.replace("{}", name))
        for place, source, variables in places
        for name, value in variables.items()
        if value and name.upper().startswith(PREFIX)
    }


def _env_file(path: str | Path | None) -> Mapping[str, str | None]:
    try:
        return DotEnvSettingsSource(Settings, env_file=path).env_vars
    except (OSError, UnicodeDecodeError) as error:
        raise errors.SettingsError(f"{path} cannot be read as UTF-8 lines of NAME=value: {error}") from error


def _secrets(directory: str | Path | None) -> dict[str, str | None]:
    """Read the files that are named like variables; the rest of the directory is somebody else's."""
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


def _refused(problems: list[str]) -> errors.SettingsError:
    if len(problems) == 1:
        return errors.SettingsError(problems[0])
    return errors.SettingsError(
        "\n".join([f"{len(problems)} settings are wrong:", *(f"  {line}" for line in problems)])
    )


def _unknown(name: str, place: str) -> str:
    near = difflib.get_close_matches(name.removeprefix(PREFIX), [known.removeprefix(PREFIX) for known in _KNOWN], n=1)
    advice = f"did you mean {PREFIX}{near[0]}?" if near else "`goalworker config docs` lists those there are"
    return f"{name} in {place} is no setting; {advice}"


def _sentences(error: pydantic.ValidationError, found: Mapping[str, _Found]) -> Iterator[str]:
    for detail in error.errors(include_url=False):
        # What a group's own check says is whole sentences already.
        reason = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else _reason(detail["msg"])
        if len(detail["loc"]) == 1:
            yield from reason.splitlines()
            continue
        name = groups.variable(*map(str, detail["loc"][:2]))
        info = _KNOWN[name].info
        quoted = "" if _is_secret(info) else f"={found[name].value!r}"
        yield f"{name}{quoted} in {found[name].place}: {reason}; for example {name}={groups.example(info)}"


def _reason(message: str) -> str:
    return message.replace("Input should", "it should").replace("String should", "it should")


def _is_secret(info: FieldInfo) -> bool:
    return not info.repr or "SecretStr" in str(info.annotation)


def table() -> list[Row]:
    """Return every setting with its default and its meaning, in the order of the groups."""
    return [Row(name, _default(setting.info), setting.info.description or "") for name, setting in _KNOWN.items()]


def _default(info: FieldInfo) -> str:
    extra = info.json_schema_extra
    return str(extra["shown_default"]) if isinstance(extra, dict) else values.shown(info.default)


def masked(settings: Settings) -> dict[str, str]:
    """Return every setting's effective value by name, secrets and passwords in URLs masked, nothing where unset."""
    return {
        name: _shown(getattr(getattr(settings, setting.group), setting.field), setting.info)
        for name, setting in _KNOWN.items()
    }


def sources(settings: Settings) -> dict[str, str]:
    """Return where each setting's value comes from, by name: `default`, `environment`, `.env` or a secrets file."""
    return {name: settings.sources.get(name, "default") for name in _KNOWN}


def sources_in_short(settings: Settings) -> str:
    """Return how many settings come from where."""
    kinds = collections.Counter(source.partition(" /")[0] for source in sources(settings).values())
    return ", ".join(
        f"{count} from {kind}" for kind, count in sorted(kinds.items(), key=lambda item: item[0] == "default")
    )


def _shown(value: object, info: FieldInfo) -> str:
    if value is None:
        return _default(info)
    if info.repr:
        return values.shown(value)
    return values.masked_url(value.get_secret_value() if isinstance(value, SecretStr) else str(value))


def kafka_client_options(settings: Settings) -> dict[str, Any]:
    """Return what every aiokafka client is made with; SettingsError where brokers or TLS files are missing or wrong."""
    kafka = settings.kafka
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers(),
        "client_id": kafka.client_id,
        "security_protocol": kafka.security_protocol,
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
    }
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(kafka)
    if kafka.mechanism and kafka.sasl_password:
        options["sasl_mechanism"] = kafka.mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password.get_secret_value()
    return options


def _ssl_context(kafka: groups.Kafka) -> ssl.SSLContext:
    """Return a context that checks the brokers' certificates and their host names."""
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_cafile)
    except OSError as error:
        raise _unusable("ssl_cafile", kafka.ssl_cafile, error) from error
    if kafka.ssl_certfile:
        try:
            context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile)
        except OSError as error:
            raise _unusable("ssl_certfile", kafka.ssl_certfile, error) from error
    return context


def _unusable(field: str, path: Path | None, error: OSError) -> errors.SettingsError:
    name = groups.variable("kafka", field)
    key = " with its key" if field == "ssl_certfile" else ""
    return errors.SettingsError(f"{name}={path}{key} cannot be used as PEM: {error.strerror or error}")
