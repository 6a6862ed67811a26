"""ops/helm/synap, rendered and refused by Helm itself, of which `helm-python-sdk` is a binding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from synap.config.loading import load_config

helm_python = pytest.importorskip(
    "helm_python", reason="helm-python-sdk is not here; `make setup` installs it where it can"
)

ROOT = Path(__file__).parents[3]
CHART = ROOT / "ops/helm/synap"

Manifests = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def chart() -> Any:
    return helm_python.Chart.load(CHART)


def rendered(chart: Any, name: str = "synap", **values: Any) -> Manifests:
    files = chart.render(values, name=name, namespace="stores", is_install=True)
    found = [each for text in files.values() for each in yaml.safe_load_all(text) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def variables(pod: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in pod["containers"][0]["env"]}


def test_chart_has_no_advice_from_helm() -> None:
    told = helm_python.lint(CHART, {}, strict=True)
    assert told["errors"] == []
    assert [each for each in told["messages"] if each["severity"] > 1] == []


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"failover": {"enabled": False}, "proxy": {"enabled": False}},
        {"replicas": 3, "storage": {"className": "fast"}, "replication": {"minReplicasToWrite": 1}},
    ],
)
def test_objects_fit_kubernetes(chart: Any, values: dict[str, Any]) -> None:
    manifests = rendered(chart, "blue", **values)
    assert ("Role", "blue-failover") in manifests or not values["failover"]["enabled"]
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, "1.34", strict=True)


def test_pods_and_proxy_are_those_of_the_manifests(chart: Any) -> None:
    """But for what the chart names and sets."""
    manifests = rendered(chart)
    proxy = next(yaml.safe_load_all((ROOT / "ops/kubernetes/proxy.yaml").read_text()))
    assert manifests[("ConfigMap", "synap-proxy")]["data"] == proxy["data"]
    for each in yaml.safe_load_all((ROOT / "ops/kubernetes/synap.yaml").read_text()):
        if each["kind"] == "StatefulSet":
            plain = each["spec"]["template"]["spec"]
    pod = manifests[("StatefulSet", "synap")]["spec"]["template"]["spec"]
    ours, theirs = pod["containers"][0], plain["containers"][0]
    assert variables(plain).items() <= variables(pod).items()
    assert ours | {"env": 0} == theirs | {"env": 0}
    for field in ("volumes", "securityContext", "terminationGracePeriodSeconds"):
        assert pod[field] == plain[field]


def test_nodes_are_configured_as_nodes_take_it(chart: Any) -> None:
    more = {"SYNAP_KV_STORE__MAX_MEMORY_MB": "512"}
    manifests = rendered(chart, "blue", environment=more, failover={"ttlSecs": 8})
    pod = manifests[("StatefulSet", "blue")]["spec"]["template"]["spec"]
    given = variables(pod) | {"SYNAP_ROLE": "replica"}
    del given["SYNAP_REPLICATION__SECRET_FILE"], given["POD_NAME"]
    filled = {name: value.replace("$(POD_NAME)", "blue-1") for name, value in given.items()}
    config = load_config(None, environ=filled)
    assert (config.failover.engine, config.failover.cluster) == ("kubernetes", "blue")
    assert (config.failover.ttl_secs, config.kv_store.max_memory_mb) == (8, 512)
    assert config.replication.min_replicas_to_write == 2
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("blue", True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replicas": 0}, "minimum: got 0"),
        ({"replicaz": 3}, "additional properties 'replicaz' not allowed"),
        ({"replicas": "three"}, "got string, want integer"),
        ({"failover": {"ttlSecs": 5}}, "minimum: got 5, want 8"),
        ({"storage": {"size": "plenty"}}, "does not match pattern"),
        ({"environment": {"PATH": "/"}}, "does not match pattern"),
        ({"replicas": 2}, "of 2 nodes only 1 are replicas"),
        (
            {"replicas": 1, "replication": {"minReplicasToWrite": 0}},
            "one node has nobody to take its place",
        ),
    ],
)
def test_values_that_make_no_cluster_are_refused(
    chart: Any, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(helm_python.HelmError, match=words):
        rendered(chart, **values)


def test_overlay_of_the_manifests_gives_the_agents_what_the_chart_does(
    chart: Any,
) -> None:
    folder = ROOT / "ops/kubernetes/failover"
    manifests = rendered(chart)
    for each in yaml.safe_load_all((folder / "lease.yaml").read_text()):
        kubernetes_validate.validate(each, "1.34", strict=True)
        ours = manifests[(each["kind"], each["metadata"]["name"])]
        for field in ("rules", "roleRef", "subjects"):
            assert each.get(field) == ours.get(field)
    patch = yaml.safe_load((folder / "nodes.yaml").read_text())
    pod = manifests[(patch["kind"], patch["metadata"]["name"])]["spec"]["template"]["spec"]
    patched = patch["spec"]["template"]["spec"]
    assert variables(patched).items() <= variables(pod).items()
    for field in ("serviceAccountName", "automountServiceAccountToken"):
        assert patched[field] == pod[field]
