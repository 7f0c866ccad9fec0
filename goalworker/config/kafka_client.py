"""Options of aiokafka's clients, from the settings of the broker."""

import ssl
from pathlib import Path
from typing import Any, Final

from goalworker import errors
from goalworker.config import groups, variables
from goalworker.config.settings import Settings

_METADATA_MAX_AGE_MS: Final = 30_000
"""Age at which a client refreshes its metadata: a partition that was added is read this late at most."""


def kafka_client_options(settings: Settings) -> dict[str, Any]:
    """Return the options of every aiokafka client; SettingsError where brokers or TLS files are missing or wrong."""
    kafka = settings.kafka
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers(),
        "client_id": kafka.client_id,
        "security_protocol": kafka.security_protocol,
        "metadata_max_age_ms": _METADATA_MAX_AGE_MS,
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
    name = variables.variable("kafka", field)
    key = " with its key" if field == "ssl_certfile" else ""
    return errors.SettingsError(f"{name}={path}{key} cannot be used as PEM: {error.strerror or error}")
