"""Order of the pods, services, scaling, disruption budgets and network policies of the chart."""

from typing import Any, Final

import pytest

from tests.deploy import helm

pytestmark = pytest.mark.deploy

NAME: Final = "app.kubernetes.io/component"
HOOK: Final = "helm.sh/hook"

each_values = pytest.mark.parametrize("values", helm.VALUES)


def selected(selector: dict[str, str], values: str) -> set[str]:
    """Return the components that a selector matches."""
    return {
        component
        for component, pod in helm.pods(values).items()
        if selector.items() <= pod["metadata"]["labels"].items()
    }


def spec_of(kind: str, values: str, component: str) -> Any:
    [found] = [each for each in helm.of_kind(kind, values) if each["metadata"]["labels"].get(NAME) == component]
    return found["spec"]


@each_values
def test_jobs_run_before_everything_and_need_nothing_of_the_chart(values: str) -> None:
    for job in helm.of_kind("Job", values):
        annotations = job["metadata"]["annotations"]
        assert annotations[HOOK] == "pre-install,pre-upgrade"
        # A failed job is kept for its log until the next one begins.
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
        pod = job["spec"]["template"]["spec"]
        assert pod["restartPolicy"] == "Never"
        assert "serviceAccountName" not in pod


@each_values
def test_what_runs_for_long_has_the_charts_account_and_is_no_hook(values: str) -> None:
    accounts = {account["metadata"]["name"] for account in helm.of_kind("ServiceAccount", values)} or {"shared"}
    for deployment in helm.of_kind("Deployment", values):
        assert HOOK not in deployment["metadata"].get("annotations", {})
        assert deployment["spec"]["template"]["spec"]["serviceAccountName"] in accounts
    assert all(account["automountServiceAccountToken"] is False for account in helm.of_kind("ServiceAccount", values))


@each_values
def test_a_selector_means_exactly_the_pods_of_its_component(values: str) -> None:
    for kind in ("Deployment", "PodDisruptionBudget", "NetworkPolicy"):
        for document in helm.of_kind(kind, values):
            spec = document["spec"]
            selector = spec.get("selector") or spec["podSelector"]
            assert selected(selector["matchLabels"], values) == {document["metadata"]["labels"][NAME]}
    for deployment in helm.of_kind("Deployment", values):
        for constraint in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            found = selected(constraint["labelSelector"]["matchLabels"], values)
            assert found == {deployment["metadata"]["labels"][NAME]}


@each_values
def test_a_service_leads_to_a_port_that_is_open(values: str) -> None:
    for service in helm.of_kind("Service", values):
        [component] = selected(service["spec"]["selector"], values)
        [port] = service["spec"]["ports"]
        [container] = helm.pods(values)[component]["spec"]["containers"]
        assert port["targetPort"] in {open_port["name"] for open_port in container["ports"]}


@each_values
def test_metrics_of_a_pod_that_is_not_ready_are_found(values: str) -> None:
    found = {
        service["metadata"]["labels"][NAME]
        for service in helm.of_kind("Service", values)
        if service["spec"]["ports"][0]["name"] == "ops" and service["spec"]["publishNotReadyAddresses"]
    }
    assert found == {deployment["metadata"]["labels"][NAME] for deployment in helm.of_kind("Deployment", values)}


def test_the_service_monitor_means_the_services_with_an_operations_port() -> None:
    [monitor] = helm.of_kind("ServiceMonitor", "everything")
    labels = monitor["spec"]["selector"]["matchLabels"]
    [endpoint] = monitor["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("ops", "/metrics")
    found = [
        each for each in helm.of_kind("Service", "everything") if labels.items() <= each["metadata"]["labels"].items()
    ]
    assert [each["metadata"]["name"] for each in found if each["spec"]["ports"][0]["name"] == endpoint["port"]] == [
        "goals-worker-ops",
        "goals-api-ops",
        "goals-insight-ops",
    ]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


@each_values
def test_one_pod_at_a_time_may_be_taken_away(values: str) -> None:
    budgets = helm.of_kind("PodDisruptionBudget", values)
    assert len(budgets) == len(helm.of_kind("Deployment", values))
    assert all(budget["spec"]["maxUnavailable"] == 1 for budget in budgets)


@each_values
def test_a_rollout_has_never_more_workers_than_before_and_never_less_of_the_api(values: str) -> None:
    strategies = {
        deployment["metadata"]["labels"][NAME]: deployment["spec"]["strategy"]["rollingUpdate"]
        for deployment in helm.of_kind("Deployment", values)
    }
    assert strategies["worker"] == {"maxUnavailable": 1, "maxSurge": 0}
    assert strategies.get("api", {"maxUnavailable": 0})["maxUnavailable"] == 0


@each_values
def test_who_scales_the_worker_is_alone_in_it(values: str) -> None:
    scaled = bool(helm.of_kind("ScaledObject", values))
    assert scaled == (values == "keda")
    assert ("replicas" in spec_of("Deployment", values, "worker")) != scaled


def test_workers_follow_the_lag_of_the_whole_group_in_few_slow_steps() -> None:
    spec = spec_of("ScaledObject", "keda", "worker")
    assert spec["scaleTargetRef"]["name"] == "goalworker-worker"
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 12)
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"] == {
        "stabilizationWindowSeconds": 600,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 600}],
    }
    [trigger] = spec["triggers"]
    assert "topic" not in trigger["metadata"]
    assert trigger["metadata"]["excludePersistentLag"] == "true"
    assert trigger["metadata"]["lagThreshold"] == "5000000"


def test_keda_logs_in_as_the_worker_does() -> None:
    worker = helm.environment(helm.pods("keda")["worker"])
    spec = spec_of("TriggerAuthentication", "keda", "worker")
    [username] = spec["env"]
    assert username["name"] in worker
    references = {each["parameter"]: (each["name"], each["key"]) for each in spec["secretTargetRef"]}
    password = worker["GOALWORKER_KAFKA__SASL_PASSWORD"]["valueFrom"]["secretKeyRef"]
    assert references == {"password": (password["name"], password["key"]), "ca": ("kafka-ca", "ca.crt")}
    [trigger] = spec_of("ScaledObject", "keda", "worker")["triggers"]
    assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == ("scram_sha256", "enable")


@pytest.mark.parametrize("values", ["everything", "sasl-tls", "worker-only"])
def test_every_pod_may_talk_to_what_it_uses_and_to_nothing_else(values: str) -> None:
    policies = {each["metadata"]["labels"][NAME]: each for each in helm.of_kind("NetworkPolicy", values)}
    assert policies.keys() == helm.pods(values).keys()
    kafka = {"everything": {9092, 9093}, "sasl-tls": {9093}, "worker-only": {9092}}[values]
    others = {53, 5353, 443} if values == "everything" else {53}
    database = {6432} if values == "everything" else {5432}
    uses = {
        "worker": kafka | database,
        "api": kafka | database if values == "sasl-tls" else database,
        "insight": kafka | database,
        "migration": database,
        "topics": kafka,
    }
    for component, policy in policies.items():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        allowed = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
        assert allowed == uses[component] | others


def test_only_the_api_is_open_and_only_monitoring_sees_metrics() -> None:
    opened = {
        each["metadata"]["labels"][NAME]: {
            rule["ports"][0]["port"]: rule["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            for rule in each["spec"].get("ingress", [])
        }
        for each in helm.of_kind("NetworkPolicy", "everything")
    }
    assert opened == {
        "worker": {"ops": "monitoring"},
        "api": {"http": "engine", "ops": "monitoring"},
        "insight": {"ops": "monitoring"},
        "migration": {},
        "topics": {},
    }


def test_a_jobs_policy_is_there_before_the_job() -> None:
    for policy in helm.of_kind("NetworkPolicy", "everything"):
        is_job = policy["metadata"]["labels"][NAME] in {"migration", "topics"}
        annotations = policy["metadata"].get("annotations", {})
        assert (annotations.get(HOOK) == "pre-install,pre-upgrade") == is_job
        assert (int(annotations.get("helm.sh/hook-weight", 0)) < 0) == is_job
