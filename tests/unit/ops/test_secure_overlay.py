"""ops/docker-compose.secure.yml over docker-compose.yml, and the secrets that both are given."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from synap.config.loading import load_config

ROOT = Path(__file__).parents[3]
NODES = ("master", "replica1", "replica2", "replica3")
PASSWORDS = {"root_password", "grafana_admin_password", "replication_secret"}
KEYS = {f"curve_{node}.key" for node in NODES}


def load(name: str) -> dict[str, Any]:
    """Return a Compose file; `!override` is for Compose alone."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / name).read_text().replace("!override ", ""))
    return loaded


@pytest.fixture(scope="module")
def overlay() -> dict[str, Any]:
    return load("ops/docker-compose.secure.yml")


@pytest.mark.parametrize("name", NODES)
def test_node_asks_for_credentials_over_tls(overlay: dict[str, Any], name: str) -> None:
    node = overlay["services"][name]
    given = node["environment"]
    assert given["SYNAP_AUTH_ENABLED"] == "true"
    assert given["SYNAP_SERVER__ADVERTISE_URL"] == f"https://synap-{name}:15500"
    files = {"/run/secrets/" + secret for secret in node["secrets"] if isinstance(secret, str)}
    assert {
        given["SYNAP_AUTH_ROOT_PASSWORD_FILE"],
        given["SYNAP_SERVER__TLS__CERT_PATH"],
        given["SYNAP_SERVER__TLS__KEY_PATH"],
    } == files


@pytest.mark.parametrize("name", NODES)
def test_node_replicates_encrypted_over_a_network_of_its_own(
    overlay: dict[str, Any], name: str
) -> None:
    node = overlay["services"][name]
    assert {"source": f"curve_{name}.key", "target": "curve_key"} in node["secrets"]
    role = "master" if name == "master" else "replica"
    (mounted,) = node["volumes"]
    assert mounted == f"./secrets/config-{role}.yml:{node['environment']['SYNAP_CONFIG']}:ro"
    # Both ways to be a member at once are a fault of the configuration.
    assert node["environment"]["SYNAP_REPLICATION__SECRET_FILE"] == ""
    assert node["networks"]["synap-replication"]["aliases"] == [f"synap-{name}.replication"]
    assert overlay["networks"]["synap-replication"]["internal"] is True
    if name != "master":
        address = node["environment"]["SYNAP_MASTER_ADDRESS"]
        assert address == "synap-master.replication:15501"


def test_no_port_of_replication_is_published(overlay: dict[str, Any]) -> None:
    services = load("docker-compose.yml")["services"]
    for name in NODES:
        ports = overlay["services"][name].get("ports", services[name]["ports"])
        assert [port.rpartition(":")[2] for port in ports] == ["15500"]
    text = (ROOT / "ops/docker-compose.secure.yml").read_text()
    assert 'ports: !override ["15500:15500"]' in text


def test_secrets_that_are_used_are_declared_and_made(overlay: dict[str, Any]) -> None:
    used = {
        secret if isinstance(secret, str) else secret["source"]
        for service in overlay["services"].values()
        for secret in service["secrets"]
    }
    assert used == set(overlay["secrets"])
    made = PASSWORDS | KEYS | {"tls.pem", "tls.pem.key"}
    for name, secret in overlay["secrets"].items():
        assert secret["file"] == f"./secrets/{name}"
        assert name in made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ops/generate-secrets.sh has filled."""
    folder = tmp_path_factory.mktemp("secrets")
    synap = folder / "synap"
    synap.write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -P -m workers.main "$@"\n'
    )
    synap.chmod(0o700)
    run = generate(folder, synap)
    assert run.returncode == 0, run.stderr
    return folder / "made"


def generate(folder: Path, synap: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "ops/generate-secrets.sh", "--directory", folder / "made", "--name", "10.0.0.1"],
        # No engine: what it would do takes an image.
        env={**os.environ, "SYNAP": str(synap), "DOCKER": "false"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_secrets_are_readable_by_their_users_alone(made: Path) -> None:
    assert made.stat().st_mode & 0o777 == 0o700
    for name in PASSWORDS | KEYS | {"tls.pem.key"}:
        status = (made / name).stat()
        assert status.st_mode & 0o777 == 0o600, name
        if os.geteuid() == 0:
            assert status.st_uid == (472 if name.startswith("grafana") else 10001), name
    assert {path.name for path in made.iterdir()} == PASSWORDS | KEYS | {
        "tls.pem", "tls.pem.key", "config-master.yml", "config-replica.yml",
    }  # fmt: skip


def test_secrets_that_exist_are_kept(made: Path) -> None:
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    run = generate(made.parent, made.parent / "synap")
    assert run.returncode == 0, run.stderr
    assert "made" not in re.findall(r"^\w+", run.stdout, re.MULTILINE)
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before


def test_certificate_is_for_all_nodes_and_what_was_named(made: Path) -> None:
    context = ssl.create_default_context(cafile=made / "tls.pem")
    context.load_cert_chain(made / "tls.pem", made / "tls.pem.key")
    told = subprocess.run(
        ["openssl", "x509", "-in", made / "tls.pem", "-noout", "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in (*(f"DNS:synap-{node}" for node in NODES), "DNS:synap,", "IP Address:10.0.0.1"):
        assert name in told


@pytest.mark.parametrize("role", ["master", "replica"])
def test_configuration_with_keys_is_valid_and_the_rest_as_it_was(made: Path, role: str) -> None:
    config = load_config(made / f"config-{role}.yml", environ={})
    curve = config.replication.curve
    assert curve.enabled
    assert len(set(curve.server_key)) == len(NODES)
    assert curve.allowed_keys == curve.server_key
    plain = yaml.safe_load((ROOT / f"ops/config-{role}.yml").read_text())
    loaded = yaml.safe_load((made / f"config-{role}.yml").read_text())
    del loaded["replication"]["curve"]
    plain["replication"].pop("curve", None)
    assert loaded == plain
