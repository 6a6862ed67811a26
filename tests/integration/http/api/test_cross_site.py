"""What pages of other sites ask for: by every way in that changes something, and refused."""

from __future__ import annotations

import re
import socket
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from synap.http.api.openapi.routes import ROUTES as DESCRIBED
from tests.integration.http_support import DEADLINE_SECONDS, Client, error_of, make_config, serving
from tests.support import HOST, Answer, Node

JSON = {"Content-Type": "application/json"}
PASSWORD = "correct horse"
ROOT = {"Authorization": "Basic " + b64encode(f"root:{PASSWORD}".encode()).decode()}
LISTED = "https://app.example"

CHANGING = [
    (operation.method, re.sub(r"{\w+}", "some", operation.path))
    for operations in DESCRIBED.values()
    for operation in operations
    if operation.method != "GET"
]
# What a browser adds to what a page of another site sends; PORT stands for the node's.
FOREIGN: dict[str, dict[str, str]] = {
    "another site": {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    "an old browser": {"Origin": "https://evil.example"},
    "a sandboxed frame": {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    "no origin": {"Sec-Fetch-Site": "cross-site"},
    "a frame of a page within": {"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": "cross-site"},
    "another port": {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"},
    "another port without origin": {"Sec-Fetch-Site": "same-site"},
    "another scheme": {"Origin": "https://127.0.0.1:PORT"},
    "another name": {"Origin": "http://localhost:PORT"},
    "a longer name": {"Origin": "http://127.0.0.1:PORT.evil.example"},
    "no port": {"Origin": "http://127.0.0.1"},
    "an unlisted part": {"Origin": "https://app.example.evil.example"},
    "something new": {"Sec-Fetch-Site": "fenced"},
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A node with authentication that knows its root user."""
    settings = {
        "auth.enabled": True,
        "auth.root.password": PASSWORD,
        "server.cors_origins": LISTED,
        "kv_store.allow_flush_commands": True,
    }
    with Node(tmp_path_factory.mktemp("sites"), "sites", settings) as node:
        client = Client(node.port)
        assert (
            client.send("POST", "/kv/set", b'{"key":"some","value":1}', ROOT | JSON).status == 200
        )
        yield client


def sent_by_page(headers: Mapping[str, str], port: int) -> dict[str, str]:
    return {name: value.replace("PORT", str(port)) for name, value in headers.items()}


def ask(client: Client, headers: Mapping[str, str], path: str = "/kv/set") -> Answer:
    return client.send("POST", path, b'{"key":"some","value":2}', headers)


@pytest.mark.parametrize("page", FOREIGN)
@pytest.mark.parametrize("credentials", [{}, ROOT], ids=["anonymous", "root"])
def test_foreign_page_is_refused_on_every_route_that_changes_something(
    guarded: Client, page: str, credentials: dict[str, str]
) -> None:
    before = guarded.get("/digest", ROOT).body
    headers = sent_by_page(FOREIGN[page], guarded.port) | credentials
    for method, path in CHANGING:
        answer = guarded.send(method, path, b'{"command":"kv.flushall"}', headers | JSON)
        assert error_of(answer) == (403, "cross_origin", False), (method, path)
    assert guarded.get("/digest", ROOT).body == before


@pytest.mark.parametrize("page", FOREIGN)
def test_foreign_page_is_refused_without_authentication_also(
    client: Client, key: str, page: str
) -> None:
    body = b'{"key":"%b","value":1}' % key.encode()
    for content_type in (None, "application/json", "text/plain"):
        headers = sent_by_page(FOREIGN[page], client.port)
        headers |= {} if content_type is None else {"Content-Type": content_type}
        # The second goes by a head that is known by then.
        for _ in range(2):
            answer = client.send("POST", "/kv/set", body, headers)
            assert error_of(answer) == (403, "cross_origin", False)
    assert client.read(key) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": LISTED, "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://127.0.0.1:PORT"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_programs_own_pages_and_listed_origins_are_served(
    guarded: Client, headers: dict[str, str]
) -> None:
    page = sent_by_page(headers, guarded.port)
    assert ask(guarded, page | ROOT | JSON).status == 200


def test_body_of_a_browser_without_a_type_is_no_json(guarded: Client) -> None:
    own = {"Origin": f"http://127.0.0.1:{guarded.port}"}
    assert error_of(ask(guarded, own | ROOT))[:2] == (415, "unsupported_media_type")
    assert ask(guarded, ROOT).status == 200


def test_preflight_of_a_listed_origin_is_granted(guarded: Client) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    answer = guarded.send("OPTIONS", "/kv/set", None, {"Origin": LISTED} | asked)
    assert answer.headers["access-control-allow-origin"] == LISTED
    assert answer.headers["access-control-allow-headers"] == "x-api-key"
    assert "POST" in answer.headers["access-control-allow-methods"]
    other = guarded.send("OPTIONS", "/kv/set", None, {"Origin": "https://evil.example"} | asked)
    assert "access-control-allow-origin" not in other.headers


def test_answers_vary_by_origin_where_some_are_listed(guarded: Client, client: Client) -> None:
    for path in ("/health", "/kv/get/some", "/nowhere"):
        assert guarded.get(path, ROOT).headers["vary"] == "Origin"
    assert [client.get("/kv/get/none").headers["vary"] for _ in range(3)] == ["Origin"] * 3


def test_listed_origin_sees_why_it_is_refused(guarded: Client) -> None:
    answer = ask(guarded, {"Origin": LISTED} | JSON)
    assert answer.status == 401
    assert answer.headers["access-control-allow-origin"] == LISTED


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "h:80"])
@pytest.mark.parametrize("path", ["/health", "/kv/get/some", "/metrics", "/docs", "/nowhere"])
def test_host_that_is_not_the_machine_is_421_on_the_loopback(
    guarded: Client, host: str, path: str
) -> None:
    for _ in range(2):
        answer = guarded.get(path, {"Host": host} | ROOT)
        assert error_of(answer) == (421, "host_not_allowed", False)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:15500", "127.0.0.1", "127.9.9.9:1", "[::1]:15500", "a.localhost"],
)
def test_host_that_is_the_machine_is_served_on_the_loopback(guarded: Client, host: str) -> None:
    assert guarded.get("/health", {"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "[::1].evil.example", "[::1]evil.example:80", "[::1]:80.evil.example", "[::1",
        "[localhost]", "[127.0.0.1]", "127.0.0.1:80.evil.example", "localhost:a@evil.example",
        "localhost/x", "localhost:1:2", "evil.example/.localhost", "[::1%evil.example]",
        "user@localhost", "::1",
    ],
)  # fmt: skip
def test_host_that_is_no_host_and_port_is_421_on_the_loopback(client: Client, host: str) -> None:
    for path in ("/health", "/kv/get/some"):
        for _ in range(2):
            answer = client.get(path, {"Host": host})
            assert error_of(answer) == (421, "host_not_allowed", False)


def test_known_head_of_another_host_is_not_served(client: Client, key: str) -> None:
    client.put(key, 1)
    request = f"GET /kv/get/{key} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode()
    with socket.create_connection((HOST, client.port), DEADLINE_SECONDS) as raw:
        for _ in range(3):
            raw.sendall(request)
            assert raw.recv(65536).startswith(b"HTTP/1.1 421 ")


def test_listed_hosts_alone_are_served_where_the_node_is_not_on_the_loopback(
    tmp_path: Path, run_dir: Path
) -> None:
    config = make_config(tmp_path, server__host="0.0.0.0", server__allowed_hosts="Db.example")
    with serving(config) as client:
        asked = ("db.example:15500", "DB.example.", "192.0.2.7", "[2001:db8::1]:80", "evil.example")
        statuses = [client.get("/liveness", {"Host": host}).status for host in asked]
    assert [status != 421 for status in statuses] == [True] * 4 + [False]


def test_trusted_proxy_tells_the_origin_of_own_pages(tmp_path: Path, run_dir: Path) -> None:
    config = make_config(tmp_path, server__trusted_proxies="127.0.0.1")
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "db.example:443"}
    origin = {"Origin": "https://db.example"}
    with serving(config) as client:
        assert error_of(ask(client, origin | JSON))[:2] == (403, "cross_origin")
        assert ask(client, origin | told | JSON).status == 503
    with serving(make_config(tmp_path)) as client:
        assert error_of(ask(client, origin | told | JSON))[:2] == (403, "cross_origin")
