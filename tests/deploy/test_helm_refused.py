"""Invalid values are refused before anything is changed, each with a sentence."""

from typing import Final

import pytest

from tests.deploy import helm

pytestmark = pytest.mark.deploy

LOGIN: Final = ("kafka.sasl.username=u", "kafka.sasl.existingSecret=s")
TOKENS: Final = ("settings.API__JWT_ISSUER=i", "settings.API__JWT_AUDIENCE=a")

TOGETHER: Final = {
    "worker.replicas is 13, but kafka.partitions is 12": ("worker.replicas=13",),
    "insight.replicas is 13, but kafka.partitions is 12": ("insight.replicas=13",),
    "keda.maxReplicas is 13, but kafka.partitions is 12": ("keda.enabled=true", "keda.maxReplicas=13"),
    "the minimum is over the maximum": ("keda.enabled=true", "keda.minReplicas=5", "keda.maxReplicas=4"),
    "so is database.worker.existingSecret: name the Secret": ("database.existingSecret=",),
    "so is database.api.existingSecret: name the Secret": (
        "database.existingSecret=",
        "database.worker.existingSecret=w",
        "database.migration.existingSecret=m",
    ),
    "so is database.migration.existingSecret: name the Secret": (
        "database.existingSecret=",
        "database.worker.existingSecret=w",
        "api.enabled=false",
    ),
    "database.ca names both a Secret and a ConfigMap": (
        "database.ca.existingSecret=a",
        "database.ca.existingConfigMap=b",
    ),
    "kafka.bootstrapServers is empty": ("kafka.bootstrapServers=",),
    "kafka.securityProtocol is SASL_SSL, which needs kafka.sasl.username and kafka.sasl.existingSecret": (
        "kafka.securityProtocol=SASL_SSL",
        "kafka.sasl.username=u",
    ),
    "kafka.sasl is set, but kafka.securityProtocol is SSL, which logs in nowhere": (
        "kafka.securityProtocol=SSL",
        *LOGIN,
    ),
    "kafka.tls is set, but kafka.securityProtocol is SASL_PLAINTEXT, which encrypts nothing": (
        "kafka.securityProtocol=SASL_PLAINTEXT",
        *LOGIN,
        "kafka.tls.ca.existingSecret=ca",
    ),
    "kafka.tls.ca names both a Secret and a ConfigMap": (
        "kafka.securityProtocol=SSL",
        "kafka.tls.ca.existingSecret=a",
        "kafka.tls.ca.existingConfigMap=b",
    ),
    "settings.KAFKA__GROUP_ID is for the chart to set; what decides it is kafka.groupId": (
        "settings.KAFKA__GROUP_ID=g",
    ),
    "settings.DATABASE__URL is for the chart to set; what decides it is database.existingSecret": (
        "settings.DATABASE__URL=postgresql://u:p@h/d",
    ),
    "extraEnv has GOALWORKER_OPS__PORT, which is set already": ("extraEnv[0].name=GOALWORKER_OPS__PORT",),
    "extraEnv has GOALWORKER_LOG__LEVEL, which is set already by settings.LOG__LEVEL": (
        "settings.LOG__LEVEL=debug",
        "extraEnv[0].name=GOALWORKER_LOG__LEVEL",
    ),
    "api.jwt.existingSecret and API__JWKS_URL are both set": (
        "api.jwt.existingSecret=s",
        "settings.API__JWKS_URL=https://l/k",
        *TOKENS,
    ),
    "settings.API__JWT_AUDIENCE is not set, and tokens are checked against it": (
        "api.jwt.existingSecret=s",
        "settings.API__JWT_ISSUER=i",
    ),
}

ALONE: Final = {
    "keda.minReplicas": ("keda.minReplicas=1",),
    "kafka.partitions": ("kafka.partitions=0",),
    "kafka.bootstrapServers": ("kafka.bootstrapServers=kafka",),
    "kafka.securityProtocol": ("kafka.securityProtocol=TLS",),
    "worker.replicas": ("worker.replicas=many",),
    "image.digest": ("image.digest=abc",),
    "settings.ENROLLMENTS__TRACKING": ("settings.ENROLLMENTS__TRACKING=sometimes",),
    "LOG__LEVLE": ("settings.LOG__LEVLE=debug",),
    "replica": ("worker.replica=3",),
}


@pytest.mark.parametrize(("sentence", "values"), TOGETHER.items(), ids=list(TOGETHER))
def test_values_that_contradict_each_other_are_refused_with_a_sentence(sentence: str, values: tuple[str, ...]) -> None:
    answer = helm.template("minimal", *values)
    assert answer.returncode != 0
    assert "these values make no sense:" in answer.stderr
    assert sum(sentence in line for line in answer.stderr.splitlines()) == 1
    assert not answer.stdout


@pytest.mark.parametrize(("place", "values"), ALONE.items(), ids=list(ALONE))
def test_a_value_that_is_wrong_by_itself_is_refused_where_it_stands(place: str, values: tuple[str, ...]) -> None:
    answer = helm.template("minimal", *values)
    assert answer.returncode != 0
    assert "schema" in answer.stderr
    # Helm 4 writes paths with slashes, Helm 3 with points.
    assert place in answer.stderr.replace("/", ".")


def test_everything_that_is_wrong_is_said_at_once() -> None:
    answer = helm.template("minimal", "worker.replicas=13", "kafka.bootstrapServers=", "settings.API__HOST=h")
    said = answer.stderr.partition("these values make no sense:\n")[2].splitlines()[:3]
    named = ("worker.replicas", "kafka.bootstrapServers", "settings.API__HOST")
    assert all(line.startswith(name) for line, name in zip(said, named, strict=True))


def test_as_many_workers_as_partitions_are_fine() -> None:
    assert helm.rendered("minimal", "worker.replicas=12")
    assert helm.rendered("minimal", "keda.enabled=true", "keda.maxReplicas=12", "worker.replicas=99")
