"""What stands around a cluster, for real: Prometheus that scrapes it, then HAProxy before it.

The tests share a cluster, and the last one kills its master.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from synap.http.api.endpoints.agent_metrics import AgentCollector
from tests.haproxy import HAPROXY, Proxy
from tests.support import HOST, Cluster, Node, eventually, free_ports

OPS = Path(__file__).parents[2] / "ops"
KEYS = 20
# Checks of a new master, and one promotion on a busy machine.
FAIL_OVER_SECONDS = 15

PROMETHEUS = shutil.which("prometheus")

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed"),
    pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed"),
]


class Load:
    """One thread that reads and one that writes through the proxy until `stop`.

    Attributes:
        acknowledged: Keys of the writes that were answered with 200, with their moments.
        failed_reads: Status and body of each read that did not give its value.
    """

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._should_stop = threading.Event()
        self.acknowledged: dict[str, float] = {}
        self.failed_reads: list[tuple[int, bytes]] = []
        self.reads = 0
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._write)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads."""
        self._should_stop.set()
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        while not self._should_stop.wait(0.005):
            self.reads += 1
            number = self.reads % KEYS
            answer = self._ask("GET", f"/kv/get/fixed:{number}")
            if answer != (200, json.dumps(str(number)).encode()):
                self.failed_reads.append(answer)

    def _write(self) -> None:
        number = 0
        while not self._should_stop.wait(0.01):
            number += 1
            key = f"written:{number}"
            if self._ask("POST", "/kv/set", {"key": key, "value": "x"})[0] == 200:
                self.acknowledged[key] = time.monotonic()

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Return status and body; status 0 where there was no answer."""
        try:
            answer = self._proxy.request(method, path, body)
            return answer.status, answer.body
        except (OSError, http.client.HTTPException):
            return 0, b""

    def written_since(self, moment: float) -> float | None:
        """Return the moment of the first acknowledged write behind `moment`."""
        return next((at for at in list(self.acknowledged.values()) if at > moment), None)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(
        tmp_path_factory.mktemp("cluster"), 2, replication__heartbeat_interval_ms=200
    ) as cluster:
        for number in range(KEYS):
            body = {"key": f"fixed:{number}", "value": str(number)}
            headers = {"X-Synap-Min-Replicas": "2"}
            assert cluster.master.request("POST", "/kv/set", body, headers).status == 200
        yield cluster


class Prometheus:
    """Prometheus with the real files, its targets replaced and its intervals a second."""

    def __init__(self, folder: Path, nodes: list[Node]) -> None:
        self._port = free_ports(1)[0]
        for name in ("recording.yml", "alerts.yml"):
            shutil.copy(OPS / "prometheus" / name, folder)
        text = (OPS / "prometheus/prometheus.yml").read_text()
        for node in nodes:
            name = f"synap-{node.settings['server.node_id']}:15500"
            assert name in text
            text = text.replace(name, f"{HOST}:{node.port}")
        text = re.sub(r"^ +- synap-.*\n", "", text, flags=re.MULTILINE)
        text = text.replace("interval: 5s", "interval: 1s").replace("timeout: 4s", "timeout: 1s")
        (folder / "prometheus.yml").write_text(text)
        with (folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(PROMETHEUS),
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/tsdb",
                    f"--web.listen-address={HOST}:{self._port}",
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer; None where there is no answer."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=10)
        try:
            connection.request("GET", f"/api/v1/{path}?{urlencode(parameters)}")
            answer = json.loads(connection.getresponse().read())
        except (OSError, ValueError):
            return None
        finally:
            connection.close()
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, expression: str) -> float | None:
        """Return the value of the one series that an expression gives; None for none."""
        data = self.ask("query", query=expression)
        result = data["result"] if data else []
        return float(result[0]["value"][1]) if len(result) == 1 else None

    def stop(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), cluster.nodes)
    try:
        eventually(lambda: prometheus.value('sum(up{job="synap"})') == len(cluster.nodes))
        yield prometheus
    finally:
        prometheus.stop()


@pytest.fixture
def proxy(tmp_path: Path, cluster: Cluster) -> Iterator[Proxy]:
    nodes = {str(node.settings["server.node_id"]): node for node in cluster.nodes}
    with Proxy(tmp_path, nodes) as proxy:
        eventually(lambda: proxy.up("primary") == {"master"})
        eventually(lambda: proxy.up("reads") == {"replica1", "replica2"})
        yield proxy


@pytest.fixture
def load(proxy: Proxy) -> Iterator[Load]:
    load = Load(proxy)
    try:
        yield load
    finally:
        load.stop()


def test_prometheus_knows_the_cluster_by_its_rules(prometheus: Prometheus) -> None:
    eventually(lambda: prometheus.value("cluster:synap_masters:count") == 1)
    # The scrapes themselves are requests.
    eventually(lambda: prometheus.value("sum(instance:synap_http_requests:rate1m)"))
    assert prometheus.value("max(instance:synap_replication_lag_seconds:max)") is not None
    groups = prometheus.ask("rules")["groups"]
    bad = [rule for group in groups for rule in group["rules"] if rule["health"] == "err"]
    assert bad == []
    # One that only waits, as for a lag at the start, is none yet.
    alerts = [each for each in prometheus.ask("alerts")["alerts"] if each["state"] == "firing"]
    assert alerts == []


def test_rules_and_dashboards_name_metrics_that_nodes_have(cluster: Cluster) -> None:
    had = {rule["record"] for rule in rules() if "record" in rule}
    # Nodes that speak TLS have it, and these don't: `test_tls` looks for it.
    had.add("synap_tls_certificate_expires_timestamp_seconds")
    # Nodes with an agent have what its collector yields.
    had |= {metric.name for metric in AgentCollector({"at_ms": 1, "is_own": True}, 2).collect()}
    for node in cluster.nodes:
        text = node.request("GET", "/metrics").body.decode()
        had |= {line.partition("{")[0].partition(" ")[0] for line in text.splitlines()}
    for where, expression in expressions():
        for name in re.findall(r"\b(?:\w+:)?synap_\w+(?::\w+)?\b", expression):
            assert name in had, f"{where}: {name} in {expression}"


def test_prometheus_takes_every_expression_of_the_dashboards(prometheus: Prometheus) -> None:
    for where, expression in expressions():
        asked = expression.replace("$cluster", ".*").replace("$node", ".*")
        data = prometheus.ask("query", query=asked)
        assert data is not None, where


def rules() -> Iterator[dict[str, Any]]:
    """Yield the recording and alert rules."""
    for name in ("recording.yml", "alerts.yml"):
        for group in yaml.safe_load((OPS / "prometheus" / name).read_text())["groups"]:
            yield from group["rules"]


def expressions() -> Iterator[tuple[str, str]]:
    """Yield each expression of the rules and dashboards, behind where it is from."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for path in OPS.glob("grafana/dashboards/*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


def test_writes_find_the_promoted_replica_and_no_read_fails(
    cluster: Cluster, proxy: Proxy, load: Load
) -> None:
    old, (new, third) = cluster.master, cluster.replicas
    eventually(lambda: len(load.acknowledged) > 20 and load.reads > 50)

    old.kill()
    killed = time.monotonic()
    # The operator takes so long that the replicas' data has grown old: they go on to serve it.
    eventually(lambda: not proxy.up("reads"))
    promote_at = time.monotonic()
    assert new.request("POST", "/replication/promote", {"force": True}, {}, 30).status == 200
    promoted = time.monotonic()
    resumed = eventually(lambda: load.written_since(promoted), FAIL_OVER_SECONDS)
    print(
        f"killed, no fresh replica {promote_at - killed:.2f} s later; promotion took "
        f"{promoted - promote_at:.2f} s, the first write came {resumed - promoted:.2f} s behind it"
    )
    point_at(third, new)

    old.start()
    eventually(lambda: old.request("GET", "/primary").status == 503)
    point_at(old, new)
    eventually(lambda: proxy.up("reads") == {"master", "replica2"})
    assert proxy.up("primary") == {"replica1"}
    load.stop()

    assert not load.failed_reads
    assert load.reads > 100
    since = [key for key, at in load.acknowledged.items() if at > promoted]
    assert len(since) > 20
    # None is missing: the old master was given no write when it came back.
    assert [key for key in since if not holds(new, key)] == []
    for node in (old, third):
        eventually(partial(holds, node, since[-1]))


def point_at(node: Node, master: Node) -> None:
    body = {
        "master_address": f"{HOST}:{master.pub_port}",
        "master_sync_address": f"{HOST}:{master.sync_port}",
    }
    answer = node.request("POST", "/replication/follow", body, {}, 30)
    assert answer.status == 200, answer.body


def holds(node: Node, key: str) -> bool:
    answer = node.answer_or_none(f"/kv/get/{key}")
    return answer is not None and answer.status == HTTPStatus.OK
