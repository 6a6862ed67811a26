"""A node that serves over TLS: its certificates, their renewal, and the command line."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
import yaml

from synap.config.loading import load_config
from synap.errors import ConfigInvalid
from synap.node.paths import runs_dir
from synap.tls import check_tls, expires_at
from tests.command_line import synap_here
from tests.support import HOST, Node, children_of, eventually
from workers.health import addresses, check
from workers.process import PARENT_VARIABLE, child_environment


class Authority:
    """A certificate authority of this test, and the files that the node is configured with."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.ca_path, self.client_path = folder / "ca.pem", folder / "client.pem"
        self.cert_path, self.key_path = folder / "cert.pem", folder / "key.pem"
        self.config_path = folder / "node.yaml"
        self.ca.cert_pem.write_to_path(str(self.ca_path))
        client = self.ca.issue_cert("client@example")
        client.private_key_and_cert_chain_pem.write_to_path(str(self.client_path))
        self.renew()
        self.configure()

    def renew(self) -> None:
        """Put another certificate in the place of the one that is there."""
        issued = self.ca.issue_cert(HOST)
        self.cert_path.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(self.key_path))

    def configure(self, **more: object) -> None:
        tls = {"cert_path": str(self.cert_path), "key_path": str(self.key_path), **more}
        self.config_path.write_text(yaml.safe_dump({"server": {"tls": tls}}))

    def client_files(self) -> tuple[Path, Path]:
        """Return the client's certificate and its key, each in a file of its own."""
        key, mark, chain = self.client_path.read_text().partition("-----BEGIN CERTIFICATE-----")
        certificate = self.client_path.with_name("client-cert.pem")
        key_path = self.client_path.with_name("client-key.pem")
        certificate.write_text(mark + chain)
        key_path.write_text(key)
        return certificate, key_path

    def context(self, *, shows_itself: bool = False) -> ssl.SSLContext:
        """Return what a client of the node uses."""
        context = ssl.create_default_context(cafile=str(self.ca_path))
        if shows_itself:
            context.load_cert_chain(self.client_path)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def node(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("tls")
    node = Node(folder, "tls", {}, {"SYNAP_CONFIG": str(authority.config_path)})
    node.tls = authority.context()
    with node:
        yield node


def reload(node: Node) -> None:
    """Send HUP and wait until other workers serve."""
    before = children_of(node.http_pid())
    os.kill(node.pid, signal.SIGHUP)
    eventually(lambda: (now := children_of(node.http_pid())) and not set(now) & set(before), 30.0)


def certificate_of(node: Node) -> bytes:
    assert node.tls is not None
    with (
        socket.create_connection((HOST, node.port), 10) as raw,
        node.tls.wrap_socket(raw, server_hostname=HOST) as client,
    ):
        certificate = client.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def synap(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {**child_environment(os.environ, None, {}), PARENT_VARIABLE: "", **environment}
    command = [sys.executable, "-P", "-m", "workers.main", *arguments]
    return subprocess.run(command, env=own, capture_output=True, text=True, timeout=30)


def test_node_with_a_certificate_speaks_tls_alone(node: Node) -> None:
    assert node.request("POST", "/kv/set", {"key": "a", "value": "b"}).status == 200
    assert node.request("GET", "/kv/get/a").json() == "b"
    with socket.create_connection((HOST, node.port), 10) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not client.recv(100).startswith(b"HTTP/")
    assert f"on https://{HOST}:{node.port}" in node.log


def test_metrics_tell_when_the_certificate_expires(node: Node) -> None:
    text = node.request("GET", "/metrics").body.decode()
    name = "synap_tls_certificate_expires_timestamp_seconds"
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    assert float(line.rpartition(" ")[2]) > time.time()


def test_command_line_checks_the_node_it_speaks_to(
    node: Node, authority: Authority, tmp_path: Path
) -> None:
    url = f"https://{HOST}:{node.port}"
    untrusted = synap("snapshot", "--url", url)
    assert untrusted.returncode != 0
    assert "certificate is refused" in untrusted.stderr
    backup = ("backup", "--url", url, "--output", str(tmp_path / "backup"))
    fetched = synap(*backup, SSL_CERT_FILE=str(authority.ca_path))
    assert fetched.returncode == 0, fetched.stderr


def test_options_say_how_the_node_is_checked(node: Node, authority: Authority) -> None:
    url = f"https://{HOST}:{node.port}"
    assert synap_here("set", "a", "b", "--url", url).returncode == 3
    checked = synap_here("set", "a", "b", "--url", url, "--cacert", str(authority.ca_path))
    assert checked.returncode == 0, checked.stderr
    assert synap_here("--insecure", "get", "a", "--url", url).stdout == "b\n"
    none = synap_here("get", "a", "--url", url, "--cacert", str(authority.key_path))
    assert none.returncode == 3
    assert "no certificates in PEM" in none.stderr


def test_broken_certificate_is_refused_on_hup_and_a_new_one_taken(
    node: Node, authority: Authority
) -> None:
    first, workers = certificate_of(node), children_of(node.http_pid())
    key = authority.key_path.read_bytes()
    authority.key_path.write_text("no key")
    os.kill(node.pid, signal.SIGHUP)
    eventually(lambda: "not reloaded" in node.log)
    assert str(authority.key_path) in node.log
    assert children_of(node.http_pid()) == workers
    authority.key_path.write_bytes(key)
    assert certificate_of(node) == first
    authority.renew()
    reload(node)
    assert certificate_of(node) != first
    assert node.request("GET", "/health").status == 200


def test_client_without_a_certificate_is_turned_away_where_one_is_asked_for(
    node: Node, authority: Authority
) -> None:
    authority.configure(client_ca_path=str(authority.ca_path))
    reload(node)
    with pytest.raises((OSError, http.client.HTTPException)):
        node.request("GET", "/health")
    node.tls = authority.context(shows_itself=True)
    assert node.request("GET", "/health").status == 200
    answer = synap(
        *("snapshot", "--url", f"https://{HOST}:{node.port}"),
        SSL_CERT_FILE=str(authority.ca_path),
        SYNAP_CLIENT_CERT=str(authority.client_path),
    )
    assert answer.returncode == 0, answer.stderr
    certificate, key = authority.client_files()
    files = ("--cacert", str(authority.ca_path), "--cert", str(certificate), "--key", str(key))
    shown = synap_here("get", "a", "--url", f"https://{HOST}:{node.port}", *files)
    assert (shown.returncode, shown.stdout) == (0, "b\n")
    url = f"https://{HOST}:{node.port}"
    assert synap_here("health", "--url", url).returncode == 1
    # The check of containers has no certificate.
    (own,) = (own for named, own in addresses(runs_dir()) if named == url)
    assert check(url, own) == (True, f"standalone at {url}: healthy")
    assert synap_here("health", "--url", url, "--cert", str(authority.client_path)).returncode == 0
    gone = synap_here("health", "--url", url, "--cert", "/nowhere/at/all")
    assert (gone.returncode, "SYNAP_CLIENT_CERT" in gone.stdout) == (1, True)


@pytest.mark.parametrize("name", ["key_path", "client_ca_path"])
def test_file_that_is_no_pem_is_a_fault_that_names_it(
    authority: Authority, tmp_path: Path, name: str
) -> None:
    files = {"cert_path": authority.cert_path, "key_path": authority.key_path}
    values = {f"server.tls.{key}": str(path) for key, path in files.items()}
    values[f"server.tls.{name}"] = str(tmp_path / "none.pem")
    with pytest.raises(ConfigInvalid, match=f"server.tls.{name} = {tmp_path / 'none.pem'}"):
        check_tls(load_config(None, values, environ={}))


def test_metric_tells_when_the_certificate_expires(node: Node, authority: Authority) -> None:
    told = node.request("GET", "/metrics").body.decode()
    lines = [line for line in told.splitlines() if line.startswith("synap_tls_")]
    assert [float(line.split()[1]) for line in lines] == [float(expires_at(authority.cert_path))]
