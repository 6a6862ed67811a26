"""Authentication on a cluster: users and keys are data, and go where data goes."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import synap_here
from tests.support import HOST, Cluster, Node, descendants_of, eventually

PASSWORD = "correct horse"


def basic(username: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{username}:{PASSWORD}".encode()).decode()}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = {"auth__enabled": True, "auth__root__password": PASSWORD, "server__workers": 2}
    with Cluster(tmp_path_factory.mktemp("auth"), replicas=1, **settings) as cluster:
        yield cluster


def make_key(node: Node, username: str) -> tuple[str, str]:
    answer = node.request("POST", "/auth/keys", {"name": "k"}, basic(username))
    assert answer.status == 200, answer.body
    made = answer.json()["key"]
    return made["key"], made["id"]


def statuses(cluster: Cluster, headers: dict[str, str]) -> list[int]:
    return [node.request("GET", "/auth/me", None, headers).status for node in cluster.nodes]


def test_user_made_at_the_master_logs_in_everywhere_until_revoked_and_after_a_restart(
    cluster: Cluster,
) -> None:
    master, (replica,) = cluster.master, cluster.replicas
    ann = {"username": "ann", "password": PASSWORD, "roles": ["readonly"]}
    assert master.request("POST", "/auth/users", ann, basic("root")).status == 200
    eventually(lambda: statuses(cluster, basic("ann")) == [200, 200])
    refused = replica.request("POST", "/auth/users", {**ann, "username": "bob"}, basic("root"))
    assert (refused.status, refused.json()["reason"]) == (421, "read_only_replica")
    key, id = make_key(master, "ann")
    kept, _ = make_key(master, "ann")
    eventually(lambda: statuses(cluster, bearer(key)) == [200, 200])
    assert replica.request("GET", "/kv/get/x", None, bearer(key)).status == 404
    revoked = master.request("DELETE", f"/auth/keys/{id}", None, basic("ann"))
    assert revoked.status == 200
    assert master.request("GET", "/auth/me", None, bearer(key)).status == 401
    applied = {**bearer(kept), "X-Synap-Min-Offset": revoked.headers["x-synap-offset"]}
    assert replica.request("GET", "/auth/me", None, applied).status == 200
    for _ in range(4):
        assert replica.request("GET", "/auth/me", None, bearer(key)).status == 401
    assert master.request("POST", "/snapshot", None, basic("root")).status == 200
    master.kill()
    master.start()
    assert master.request("GET", "/auth/me", None, bearer(kept)).status == 200
    assert master.request("GET", "/auth/me", None, bearer(key)).status == 401
    eventually(lambda: replica.request("GET", "/auth/me", None, bearer(kept)).status == 200)


def test_commands_log_in_and_say_how_where_they_did_not(cluster: Cluster, tmp_path: Path) -> None:
    url = f"http://{HOST}:{cluster.replicas[0].port}"
    refused = synap_here("status", "--url", url)
    assert refused.returncode == 1
    assert "SYNAP_API_KEY" in refused.stderr
    file = tmp_path / "password"
    file.write_text("wrong")
    wrong = synap_here("get", "a", "--url", url, "--user", "root", "--password-file", str(file))
    none = synap_here("get", "a", "--url", url)
    assert (wrong.returncode, wrong.stderr) == (none.returncode, none.stderr)
    assert (none.returncode, "credentials are missing or wrong" in none.stderr) == (3, True)
    key, _ = make_key(cluster.master, "root")
    replica = cluster.replicas[0]
    eventually(lambda: replica.request("GET", "/auth/me", None, bearer(key)).status == 200)
    backup = tmp_path / "b.backup"
    done = synap_here("backup", "--url", url, "--output", str(backup), SYNAP_API_KEY=key)
    assert done.returncode == 0, done.stderr
    assert backup.stat().st_size
    alone = synap_here("status", "--url", url, SYNAP_API_KEY=key)
    assert "not known here: other replicas" in alone.stdout
    master_url = f"http://{HOST}:{cluster.master.port}"

    def check() -> subprocess.CompletedProcess[str]:
        return synap_here("status", "--check", "--url", master_url, SYNAP_API_KEY=key)

    # The replica may still fetch the key that was just made.
    eventually(lambda: check().returncode == 0)
    whole = check()
    assert (whole.returncode, whole.stderr) == (0, "")
    assert "replica1" in whole.stdout
    refused = synap_here("switchover", "--to", "replica1", "--url", master_url, SYNAP_API_KEY=key)
    assert "give the URL of replica1 by --url or --hosts" in refused.stderr
    file.write_text(PASSWORD + "\n")
    done = synap_here("--user", "root", "--password-file", str(file), "digest", "--url", url)
    assert done.returncode == 0, done.stderr


def test_no_child_of_a_node_has_the_password_in_its_environment(tmp_path: Path) -> None:
    environment = {"SYNAP_AUTH_ROOT_PASSWORD": PASSWORD, "SYNAP_API_KEY": "sk_told"}
    settings = {"auth__enabled": True}
    with Node(tmp_path / "node", "node", settings, environment) as node:
        children = descendants_of(node.pid)
        assert len(children) >= 3
        for pid in children:
            content = Path(f"/proc/{pid}/environ").read_bytes()
            assert PASSWORD.encode() not in content
            assert b"sk_told" not in content
        headers = basic("root")
        assert node.request("GET", "/stats", headers=headers).status == 200
