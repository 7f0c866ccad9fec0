"""Every pod of the chart is hardened, has probes, and starts with valid settings."""

import itertools
from pathlib import Path
from typing import Any, Final

import pytest

from goalworker import config
from goalworker.config import groups
from tests.deploy import helm

pytestmark = pytest.mark.deploy

SECRETS: Final = {
    "GOALWORKER_DATABASE__URL": "postgresql://goalworker:secret@db:5432/goalworker",
    "GOALWORKER_KAFKA__SASL_PASSWORD": "secret",
    "GOALWORKER_API__JWT_SECRET": "a-long-random-secret",
}
ELSEWHERE: Final = {"GOALWORKER_REFERENCES__URL": "http://crm/internal/{kind}/{id}"}
OPS_PORTS: Final = {"worker": groups.OPS_PORTS["run"], **{name: groups.OPS_PORTS[name] for name in ("api", "insight")}}

PODS: Final = [
    pytest.param(values, component, id=f"{values}-{component}")
    for values, components in {
        "minimal": ("worker", "api", "insight", "migration"),
        "everything": ("worker", "api", "insight", "migration", "topics"),
        "sasl-tls": ("worker", "api", "insight", "migration", "topics"),
        "keda": ("worker", "api", "insight", "migration"),
        "roles": ("worker", "api", "insight", "migration"),
        "worker-only": ("worker",),
        "first-cell": ("worker", "api", "insight", "migration", "topics"),
        "second-cell": ("worker", "api", "insight", "migration"),
    }.items()
    for component in components
]
each_pod = pytest.mark.parametrize(("values", "component"), PODS)
each_values = pytest.mark.parametrize("values", helm.VALUES)


def container(pod: helm.Document) -> Any:
    [only] = pod["spec"]["containers"]
    return only


@each_values
def test_the_pods_below_are_all_there_are(values: str) -> None:
    named = {param.values[1] for param in PODS if param.values[0] == values}
    assert set(helm.pods(values)) == named
    owners = {document["kind"] for document in helm.rendered(values) if "template" in document.get("spec", {})}
    assert owners <= {"Deployment", "Job"}


@each_pod
def test_a_pod_has_no_more_rights_than_it_needs(values: str, component: str) -> None:
    pod = helm.pods(values)[component]
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["terminationGracePeriodSeconds"] == 60
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert "initContainers" not in spec
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert container(pod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@each_pod
def test_a_pod_says_what_it_needs_and_is_held_to_its_memory_only(values: str, component: str) -> None:
    resources = container(helm.pods(values)[component])["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert set(resources["limits"]) == {"memory"}


@each_pod
def test_a_pods_environment_is_settings_that_load(values: str, component: str) -> None:
    env = helm.environment(helm.pods(values)[component])
    known = {row.name for row in config.table()}
    assert set(env) <= known
    given = {name: variable.get("value") or (SECRETS | ELSEWHERE)[name] for name, variable in env.items()}
    loaded = config.load(given, env_file=None, secrets_dir=None)
    assert not loaded.ignored_names
    if component in OPS_PORTS:
        assert loaded.ops.host in {"0.0.0.0", "::"}
        assert loaded.ops.port is None


@each_pod
def test_a_secret_is_only_ever_referred_to(values: str, component: str) -> None:
    env = helm.environment(helm.pods(values)[component])
    for name in SECRETS.keys() & env.keys():
        assert set(env[name]["valueFrom"]) == {"secretKeyRef"}
    assert not helm.of_kind("Secret", values)


@each_pod
def test_a_certificate_is_where_its_setting_says(values: str, component: str) -> None:
    pod = helm.pods(values)[component]
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    files = {
        str(Path(mount["mountPath"]) / item["path"])
        for mount in container(pod).get("volumeMounts", [])
        for item in (volumes[mount["name"]].get("secret") or volumes[mount["name"]]["configMap"])["items"]
    }
    env = helm.environment(pod)
    named = {env[name]["value"] for name in env if name.startswith("GOALWORKER_KAFKA__SSL_")}
    assert named == {file for file in files if "/kafka-" in file}
    if values == "sasl-tls" and component in {"worker", "api", "insight", "topics"}:
        assert len(named) == 3


@each_pod
def test_who_uses_the_database_has_its_url_and_who_uses_kafka_its_address(values: str, component: str) -> None:
    env = helm.environment(helm.pods(values)[component])
    assert ("GOALWORKER_DATABASE__URL" in env) == (component != "topics")
    assert ("GOALWORKER_KAFKA__BOOTSTRAP_SERVERS" in env) == (
        component in {"worker", "insight", "topics"} or (values, component) == ("sasl-tls", "api")
    )


@each_pod
def test_what_runs_for_long_is_asked_at_its_operations_port_and_a_job_is_not(values: str, component: str) -> None:
    probed = container(helm.pods(values)[component])
    if component not in OPS_PORTS:
        assert not any(name in probed for name in ("startupProbe", "livenessProbe", "readinessProbe", "ports"))
        return
    ports = {port["name"]: port["containerPort"] for port in probed["ports"]}
    assert ports == {"ops": OPS_PORTS[component]} | ({"http": 8080} if component == "api" else {})
    asked = {name: probed[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert asked == {
        "startup": {"path": "/healthz/startup", "port": "ops"},
        "liveness": {"path": "/healthz/live", "port": "ops"},
        "readiness": {"path": "/healthz/ready", "port": "ops"},
    }


@pytest.mark.parametrize(
    ("component", "arguments"),
    [
        ("worker", ["run"]),
        ("api", ["api"]),
        ("insight", ["insight"]),
        ("migration", ["db", "upgrade"]),
        ("topics", ["topics", "create", "--partitions", "24", "--replication", "3"]),
    ],
)
def test_each_pod_runs_its_command(component: str, arguments: list[str]) -> None:
    runs = container(helm.pods("everything")[component])
    assert (runs["command"], runs["args"]) == (["goalworker"], arguments)


def test_each_login_has_its_own_secret() -> None:
    found = {
        component: helm.environment(pod)["GOALWORKER_DATABASE__URL"]["valueFrom"]["secretKeyRef"]
        for component, pod in helm.pods("roles").items()
    }
    assert found == {
        "migration": {"name": "goalworker-owner", "key": "url"},
        "worker": {"name": "goalworker-logins", "key": "worker"},
        "api": {"name": "goalworker-logins", "key": "api"},
        "insight": {"name": "goalworker-logins", "key": "worker"},
    }


def test_a_digest_wins_over_a_tag() -> None:
    images = {container(pod)["image"] for pod in helm.pods("everything").values()}
    assert images == {f"registry.example.com/goalworker@sha256:{'0' * 64}"}
    assert {container(pod)["image"] for pod in helm.pods("minimal").values()} == {"goalworker:0.1.0"}
    assert {container(pod)["image"] for pod in helm.pods("minimal", "image.tag=v2").values()} == {"goalworker:v2"}


def test_a_new_version_of_the_chart_alone_restarts_nothing() -> None:
    labels = itertools.chain.from_iterable(pod["metadata"]["labels"] for pod in helm.pods("minimal").values())
    assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(labels)
