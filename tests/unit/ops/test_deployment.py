"""What the files of a deployment say, without a container engine: `make docker-test` runs them.

Each claim of docs/deployment.md about Dockerfile, Compose file and manifests is asserted here.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from synap.config.loading import keys, load_config
from workers import serve

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "docker-compose.yml"
SCRIPTS = sorted([*ROOT.glob("ops/*.sh"), ROOT / ".ci/run"])
REPLICAS = ("replica1", "replica2", "replica3")
NODES = ("master", *REPLICAS)


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program that the development dependencies brought."""
    command = [str(Path(sys.executable).with_name(name)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]


@pytest.mark.parametrize("file", sorted(p.name for p in ROOT.glob("**/docker-compose*.yml")))
def test_compose_files_fit_the_schema(file: str, tmp_path: Path) -> None:
    # The schema knows no tags of YAML.
    text = next(ROOT.glob(f"**/{file}")).read_text().replace("!override ", "")
    (tmp_path / file).write_text(text)
    run = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", tmp_path / file)
    assert run.returncode == 0, run.stdout + run.stderr


def test_dockerfile_has_no_advice_from_hadolint() -> None:
    run = tool("hadolint", "--no-color", "Dockerfile")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_have_no_advice_from_shellcheck(script: Path) -> None:
    run = tool("shellcheck", script)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(
    "script",
    [path for path in SCRIPTS if path.name not in ("run", "setup.sh")],
    ids=lambda p: p.name,
)
def test_scripts_explain_themselves_and_refuse_unknown_options(script: Path) -> None:
    told = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=20)
    assert told.returncode == 0
    assert f"ops/{script.name}" in told.stdout
    refused = subprocess.run([script, "--no-such"], capture_output=True, text=True, timeout=20)
    assert refused.returncode == 2, refused.stdout + refused.stderr


def test_image_is_built_in_two_stages_and_runs_the_node_as_pid_1() -> None:
    lines = (ROOT / "Dockerfile").read_text()
    build, last = re.split(r"^FROM .*$", lines, flags=re.MULTILINE)[1:]
    assert (
        re.findall(r"^FROM (\S+)", lines, re.MULTILINE)
        == ["python:${PYTHON_VERSION}-slim-bookworm${PYTHON_DIGEST}"] * 2
    )
    assert "--require-hashes --requirement image-requirements.txt" in build
    assert "pip wheel" in build
    assert build.count("--no-index --find-links /wheels") == 2
    assert "apt-get" not in last
    for claim in (
        "--owner synap --group root --mode 0770 /data", 'ENTRYPOINT ["synap"]',
        'CMD ["serve"]', "USER 10001:10001", "VOLUME /data",
        'CMD ["python", "-P", "-m", "workers.health"]', "SYNAP_CONFIG=/app/config.yml",
        "org.opencontainers.image.version", "STOPSIGNAL SIGTERM",
    ):  # fmt: skip
        assert claim in last


def test_compose_has_the_nodes_of_the_guide(services: dict[str, Any]) -> None:
    ports = {
        name: [port.split(":", 1)[1].split("}:")[-1] for port in services[name]["ports"]]
        for name in NODES
    }
    assert ports == {
        "master": ["15500:15500"],
        "replica1": ["15510:15500"],
        "replica2": ["15520:15500"],
        "replica3": ["15530:15500"],
    }
    for name in NODES:
        assert services[name]["container_name"] == f"synap-{name}"
        assert services[name]["hostname"] == f"synap-{name}"
        role = "master" if name == "master" else "replica"
        mode = "" if name == "master" else ":ro"
        assert services[name]["volumes"] == [
            f"{name}_data:/data",
            f"replication_secret:/cluster{mode}",
            f"./ops/config-{role}.yml:/app/config.yml:ro",
        ]


@pytest.mark.parametrize("name", NODES)
def test_compose_nodes_are_restarted_limited_and_locked_down(
    services: dict[str, Any], name: str
) -> None:
    node = services[name]
    assert node["restart"] == "unless-stopped"
    assert node["networks"] == {"synap-network": {}}
    assert node["read_only"] is True
    assert node["cap_drop"] == ["ALL"]
    assert node["logging"] == {
        "driver": "json-file",
        "options": {"max-size": "100m", "max-file": "10"},
    }
    assert {"mem_limit", "cpus", "pids_limit"} <= node.keys()


def test_compose_stops_nodes_later_than_they_drain(services: dict[str, Any]) -> None:
    drain_seconds = serve._HTTP_STOP_SECONDS + serve._OWNER_STOP_SECONDS
    for name in NODES:
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > drain_seconds


def test_compose_replicas_wait_for_a_healthy_master_and_follow_it(services: dict[str, Any]) -> None:
    for name in REPLICAS:
        assert services[name]["depends_on"] == {"master": {"condition": "service_healthy"}}
        assert services[name]["environment"] == {
            "SYNAP_ROLE": "replica",
            "SYNAP_MASTER_ADDRESS": "synap-master:15501",
            "SYNAP_REPLICATION__SECRET_FILE": "/cluster/secret",
        }


def test_compose_nodes_share_a_secret_that_the_master_makes(services: dict[str, Any]) -> None:
    """Cites K7: `docker compose up` alone makes a closed cluster."""
    files = {services[name]["environment"]["SYNAP_REPLICATION__SECRET_FILE"] for name in NODES}
    assert files == {"/cluster/secret"}
    made = services["master"]["entrypoint"][-1]
    assert made == "synap secret /cluster/secret && exec synap serve"
    # Of an empty volume the owner is that of the folder in the image.
    folder = "install --directory --owner synap --group root --mode 0770 /cluster"
    assert folder in (ROOT / "Dockerfile").read_text()
    published = [port for name in NODES for port in services[name]["ports"]]
    assert all(port.endswith(":15500") for port in published)


def test_kubernetes_lets_nodes_alone_reach_the_replication_ports() -> None:
    """Cites K7."""
    manifests = list(yaml.safe_load_all((ROOT / "ops/kubernetes/synap.yaml").read_text()))
    by_kind = {manifest["kind"]: manifest for manifest in manifests}
    policy = by_kind["NetworkPolicy"]["spec"]
    everybody, nodes = policy["ingress"]
    assert [port["port"] for port in everybody["ports"]] == [15500]
    assert "from" not in everybody
    assert [port["port"] for port in nodes["ports"]] == [15501, 15502]
    pod = by_kind["StatefulSet"]["spec"]["template"]
    selected = policy["podSelector"]["matchLabels"]
    assert nodes["from"] == [{"podSelector": {"matchLabels": selected}}]
    assert selected.items() <= pod["metadata"]["labels"].items()


def test_kubernetes_nodes_share_a_secret() -> None:
    """Cites K7: without its file nothing is applied."""
    rules = yaml.safe_load((ROOT / "ops/kubernetes/kustomization.yaml").read_text())
    (made,) = rules["secretGenerator"]
    assert made == {"name": "synap-replication", "files": ["secret=replication_secret"]}
    manifests = yaml.safe_load_all((ROOT / "ops/kubernetes/synap.yaml").read_text())
    pod = next(m for m in manifests if m["kind"] == "StatefulSet")["spec"]["template"]["spec"]
    (node,) = pod["containers"]
    (volume,) = [each for each in pod["volumes"] if "secret" in each]
    assert volume["secret"]["secretName"] == made["name"]
    (mount,) = [each for each in node["volumeMounts"] if each["name"] == volume["name"]]
    file = next(e["value"] for e in node["env"] if e["name"] == "SYNAP_REPLICATION__SECRET_FILE")
    assert file == f"{mount['mountPath']}/secret"


def test_compose_volumes_networks_and_secrets_are_declared(compose: dict[str, Any]) -> None:
    used = {
        volume.partition(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }
    assert used == set(compose["volumes"])
    assert compose["networks"] == {"synap-network": {"name": "synap-network"}}
    secrets = {s for service in compose["services"].values() for s in service.get("secrets", [])}
    assert secrets == set(compose["secrets"])


def test_fourth_replica_is_six_lines() -> None:
    third = re.search(r"^  replica3:\n(?:    .*\n)+", COMPOSE.read_text(), re.MULTILINE)
    assert third is not None
    assert third.group().count("\n") == 6


@pytest.mark.parametrize("role", ["master", "replica"])
def test_node_configuration_is_valid_and_names_every_key(role: str) -> None:
    path = ROOT / f"ops/config-{role}.yml"
    config = load_config(path, environ={})
    assert config.replication.role == role
    text = path.read_text()
    named = set(re.findall(r"^\s*(?:# *)?(\w+):", text, re.MULTILINE))
    other = {
        "master": {"master_address", "master_sync_address", "auto_reconnect", "reconnect_delay_ms"}
    }
    expected = {key.rpartition(".")[2] for key, _ in keys()} - other.get(role, set())
    assert expected <= named | {"data_dir"}


@pytest.mark.parametrize("role", ["master", "replica"])
def test_node_configuration_explains_each_key_on_its_line(role: str) -> None:
    lines = (ROOT / f"ops/config-{role}.yml").read_text().splitlines()
    keys = [line for line in lines if re.match(r"\s+(# )?\w+: \S", line)]
    assert keys
    assert [line for line in keys if "  # " not in line] == []


def test_standalone_configuration_of_the_image_is_valid() -> None:
    assert (
        load_config(ROOT / "ops/config-standalone.yml", environ={}).replication.role == "standalone"
    )


@pytest.mark.parametrize("name", ["master", "replica", "standalone"])
def test_shipped_configuration_listens_beyond_its_container(name: str) -> None:
    """The default is the loopback, which in a container leads to nobody."""
    config = load_config(ROOT / f"ops/config-{name}.yml", environ={})
    assert config.server.host == "0.0.0.0"
    assert config.replication.replica_listen_address == "0.0.0.0:15501"


def test_kubernetes_nodes_listen_on_their_pods_addresses() -> None:
    manifests = yaml.safe_load_all((ROOT / "ops/kubernetes/synap.yaml").read_text())
    pod = next(m for m in manifests if m["kind"] == "StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {"name": "SYNAP_HOST", "value": "0.0.0.0"} in container["env"]


@pytest.mark.parametrize("file", ["synap.yaml", "proxy.yaml"])
def test_kubernetes_manifests_fit_the_schemas(file: str) -> None:
    manifests = list(yaml.safe_load_all((ROOT / "ops/kubernetes" / file).read_text()))
    assert all(manifest["kind"] for manifest in manifests)
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.34", strict=True)


def test_kubernetes_proxy_has_the_rules_of_the_compose_one() -> None:
    manifests = yaml.safe_load_all((ROOT / "ops/kubernetes/proxy.yaml").read_text())
    embedded = next(m for m in manifests if m["kind"] == "ConfigMap")["data"]["haproxy.cfg"]
    own = (ROOT / "ops/haproxy.cfg").read_text()

    def rules(text: str) -> list[str]:
        backend = text[text.index("frontend api") : text.index("backend primary")]
        lines = (
            line.strip() for line in backend.partition("frontend only_primary")[0].splitlines()
        )
        return [line for line in lines if line and not line.startswith("#")]

    # There, what a cluster is encrypted with is the platform's.
    assert rules(embedded) == rules(own.replace(' "${SYNAP_PROXY_BIND[*]}"', ""))
