"""ops/docker-compose.failover.yml: agents on every node, and their engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from synap.config.loading import load_config

ROOT = Path(__file__).parents[3]
NODES = ("master", "replica1", "replica2", "replica3")
MEMBERS = ("etcd1", "etcd2", "etcd3")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    text = (ROOT / "ops/docker-compose.failover.yml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


@pytest.mark.parametrize("name", NODES)
def test_node_takes_part_and_is_reached_by_its_own_url(services: dict[str, Any], name: str) -> None:
    role = "master" if name == "master" else "replica"
    given = services[name]["environment"]
    config = load_config(ROOT / f"ops/config-{role}.yml", environ=given)
    assert config.failover.engine == "etcd"
    assert config.server.own_url == f"http://synap-{name}:15500"
    endpoints = [f"http://{services[member]['hostname']}:2379" for member in MEMBERS]
    assert list(config.failover.endpoints) == endpoints
    assert config.replication.min_replicas_to_write == 2


@pytest.mark.parametrize("name", MEMBERS)
def test_member_of_the_engine_is_told_to_the_others(services: dict[str, Any], name: str) -> None:
    given = services[name]["environment"]
    peer = given["ETCD_INITIAL_ADVERTISE_PEER_URLS"]
    assert f"{given['ETCD_NAME']}={peer}" in given["ETCD_INITIAL_CLUSTER"].split(",")
    assert services[name]["volumes"] == [f"{name}_data:{given['ETCD_DATA_DIR']}"]
