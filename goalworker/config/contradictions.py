"""Settings of a group that contradict each other, each in a sentence with an example."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from goalworker.config import variables

if TYPE_CHECKING:
    from goalworker.config import groups


def of_kafka(kafka: "groups.Kafka") -> Iterator[str]:
    """Return what contradicts itself in the settings of the connection to Kafka."""
    protocol, name = kafka.security_protocol, _kafka("security_protocol")
    sasl = {"sasl_username": kafka.sasl_username, "sasl_password": kafka.sasl_password}
    files = {"ssl_cafile": kafka.ssl_cafile, "ssl_certfile": kafka.ssl_certfile, "ssl_keyfile": kafka.ssl_keyfile}
    if protocol.startswith("SASL_"):
        for field in (field for field, value in sasl.items() if value is None):
            yield f"{_kafka(field)} is not set, and {name}={protocol} needs it; {_example(kafka, field)}"
    else:
        for field in _given({"sasl_mechanism": kafka.sasl_mechanism, **sasl}):
            yield f"{_kafka(field)} is set, but {name}={protocol} logs in nowhere; for example {name}=SASL_SSL"
    if not protocol.endswith("SSL"):
        for field in _given(files):
            yield f"{_kafka(field)} is set, but {name}={protocol} encrypts nothing; for example {name}=SSL"
    for field, other in (("ssl_certfile", "ssl_keyfile"), ("ssl_keyfile", "ssl_certfile")):
        if files[field] and not files[other]:
            yield f"{_kafka(field)} is set without {_kafka(other)}; {_example(kafka, other)}"


def _kafka(field: str) -> str:
    return variables.variable("kafka", field)


def _example(kafka: "groups.Kafka", field: str) -> str:
    return f"for example {_kafka(field)}={variables.example(type(kafka).model_fields[field])}"


def _given(fields: Mapping[str, object]) -> list[str]:
    return [field for field, value in fields.items() if value is not None]


def of_topics(topics: "groups.Topics") -> Iterator[str]:
    """Return which settings name the same topic."""
    fields_of: dict[str, list[str]] = {}
    for field, topic in topics:
        fields_of.setdefault(topic, []).append(field)
    for topic, fields in fields_of.items():
        if len(fields) > 1:
            names = [variables.variable("topics", field) for field in fields]
            yield f"{' and '.join(names)} are the same topic, {topic}; for example {names[-1]}={topic}-2"


def of_api(api: "groups.Api") -> Iterator[str]:
    """Return what contradicts itself in the settings of tokens."""
    secret, url = variables.variable("api", "jwt_secret"), variables.variable("api", "jwks_url")
    if api.jwt_secret and api.jwks_url:
        yield f"{secret} and {url} are both set; unset the one that your tokens are not signed with"
    if api.jwt_secret or api.jwks_url:
        for field in ("jwt_issuer", "jwt_audience"):
            if getattr(api, field) is None:
                name = variables.variable("api", field)
                yield (
                    f"{name} is not set, and tokens are checked against it where {secret if api.jwt_secret else url} is"
                    f" set; for example {name}={variables.example(type(api).model_fields[field])}"
                )
