"""Users, keys and permissions, on a whole node with authentication on."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from falcon.inspect import inspect_compiled_router

from synap.http.api.app import create_app
from synap.http.api.auth_guard import METRICS, PUBLIC
from synap.service.login_queue import MAX_WAITING_OF_ADDRESS
from tests.integration.http_support import Client, error_of, make_config
from tests.support import Answer, Node, eventually

PASSWORD = "correct horse"
JSON = {"Content-Type": "application/json"}


def basic(username: str, password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{username}:{password}".encode()).decode()}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


ROOT = basic("root")


class As:
    """Asks the node with some credentials."""

    def __init__(self, node: Node, credentials: Mapping[str, str]) -> None:
        self._client = Client(node.port)
        self._credentials = credentials

    def get(self, path: str) -> Answer:
        return self._client.get(path, self._credentials)

    def post(self, path: str, body: object = None) -> Answer:
        return self.send("POST", path, body)

    def delete(self, path: str) -> Answer:
        return self.send("DELETE", path)

    def send(self, method: str, path: str, body: object = None) -> Answer:
        content = None if body is None else json.dumps(body).encode()
        return self._client.send(method, path, content, {**self._credentials, **JSON})

    def key(self, name: str = "k", **more: object) -> tuple[str, str]:
        """Make an API key; return it and its id."""
        answer = self.post("/auth/keys", {"name": name, **more})
        assert answer.status == 200, answer.body
        made = answer.json()["key"]
        return made["key"], made["id"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder: Path = tmp_path_factory.mktemp("auth")
    settings = {
        "server.workers": 2,
        "auth.enabled": True,
        "auth.root.password": PASSWORD,
        "auth.roles": json.dumps({"reporter": [{"resource": "kv:report:*", "action": "read"}]}),
        "server.trusted_proxies": "127.0.0.0/8",
    }
    with Node(folder, "auth", settings) as node:
        yield node


@pytest.fixture(scope="module")
def root(node: Node) -> As:
    """The root user, by a key so that no worker hashes for him."""
    key, _ = As(node, ROOT).key("root's")
    return As(node, bearer(key))


@pytest.fixture(scope="module")
def ann(node: Node, root: As) -> As:
    """A user who may do nothing but read reports."""
    body = {"username": "ann", "password": PASSWORD, "roles": ["reporter"]}
    assert root.post("/auth/users", body).status == 200
    return As(node, basic("ann"))


def key_for(root: As, node: Node, *permissions: tuple[str, str], **more: object) -> As:
    """Return somebody with a key that allows just this."""
    wanted = [{"resource": resource, "action": action} for resource, action in permissions]
    return As(node, bearer(root.key(permissions=wanted, **more)[0]))


def assert_unauthorized(answer: Answer) -> None:
    assert error_of(answer) == (401, "unauthorized", False)
    assert answer.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("root", "wrong horse"),
        basic("nobody"),
        basic("root", ""),
        {"Authorization": "Basic %%%"},
        {"Authorization": "Basic " + b64encode(b"no colon").decode()},
        {"Authorization": "Basic " + b64encode(b"\xff:\xff").decode()},
        {"Authorization": "Digest x"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer sk_" + "a" * 32},
        {"Authorization": "Bearer " + "\xff" * 40},
        {"X-API-Key": "x"},
        {"X-API-Key": "sk_" + "a" * 5000},
    ],
)
def test_missing_or_wrong_credentials_are_401_that_tells_nothing(
    node: Node, headers: dict[str, str]
) -> None:
    answer = As(node, headers).get("/kv/get/a")
    assert_unauthorized(answer)
    assert set(answer.headers) == set(As(node, {}).get("/kv/get/a").headers)


def test_credentials_in_the_url_do_not_count(node: Node, root: As) -> None:
    key, _ = root.key()
    assert_unauthorized(As(node, {}).get(f"/kv/get/a?api_key={key}&key={key}"))


def test_health_is_public_and_a_path_like_it_is_not(node: Node) -> None:
    anybody = As(node, {})
    assert anybody.get("/health").status == 200
    assert As(node, basic("root", "wrong horse")).get("/health").status == 200
    for path in ("/health/", "/%68ealth", "/health/replication", "/stats", "/nothing"):
        assert_unauthorized(anybody.get(path))


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_key_works_in_both_headers_and_basic_for_users(node: Node, root: As, header: str) -> None:
    key, _ = root.key()
    value = f"bearer {key}" if header == "Authorization" else key
    assert As(node, {header: value}).get("/kv/stats").status == 200
    assert As(node, ROOT).get("/kv/stats").status == 200


def test_forbidden_names_the_resource_and_the_action(node: Node, root: As, ann: As) -> None:
    assert root.post("/kv/set", {"key": "report:1", "value": "x"}).status == 200
    assert ann.get("/kv/get/report:1").json() == "x"
    answer = ann.get("/kv/get/secret")
    assert error_of(answer) == (403, "forbidden", False)
    words = "Forbidden: Insufficient permissions for resource: kv:secret, action: read"
    assert answer.json()["error"] == words
    assert error_of(ann.post("/kv/set", {"key": "report:1", "value": 1}))[0] == 403
    assert error_of(ann.get("/stats"))[0] == 403


# One request of every route and method that changes nothing but with permission. A route that
# is missing here fails the test below.
BODIES: dict[tuple[str, str], object] = {
    ("POST", "/api/v1/command"): {"command": "kv.del", "payload": {"key": "guarded"}},
    ("PUT", "/raw/{key:key}"): {},
    ("DELETE", "/raw/{key:key}"): None,
    ("DELETE", "/slowlog"): None,
    ("POST", "/cluster/slots/step"): {"slot": 1, "step": "thaw"},
    ("POST", "/cluster/slots/clear"): {"slot": 1, "keys": []},
    ("POST", "/cluster/slots/requests"): {"slot": 1, "records": []},
    ("POST", "/kv/set"): {"key": "guarded", "value": 1},
    ("POST", "/kv/txn"): {"then": [{"set": {"key": "guarded", "value": 1}}]},
    ("POST", "/kv/import"): {"key": "guarded", "value": "1"},
    ("POST", "/kv/mset"): {"pairs": [["guarded", 1]]},
    ("POST", "/kv/msetnx"): {"pairs": [["guarded2", 1]]},
    ("POST", "/kv/mget"): {"keys": ["guarded"]},
    ("POST", "/kv/mdel"): {"keys": ["guarded"]},
    ("POST", "/kv/incr"): {"key": "guarded"},
    ("POST", "/kv/decr"): {"key": "guarded"},
    ("POST", "/kv/incrbyfloat"): {"key": "guarded", "amount": 0.5},
    ("POST", "/kv/{key:kv_key}/append"): {"value": "x"},
    ("POST", "/kv/{key:kv_key}/setrange"): {"offset": 0, "value": "x"},
    ("POST", "/kv/{key:kv_key}/getset"): {"value": "x"},
    ("POST", "/kv/{key:kv_key}/expire"): {"ttl": 0},
    ("POST", "/kv/{key:kv_key}/persist"): None,
    ("DELETE", "/kv/del/{key:key}"): None,
    ("POST", "/key/{key:key}/rename"): {"destination": "guarded2"},
    ("POST", "/key/{key:key}/renamenx"): {"destination": "guarded2"},
    ("POST", "/key/{key:key}/copy"): {"destination": "guarded2"},
    ("POST", "/snapshot"): None,
    ("POST", "/verify"): None,
    ("POST", "/replication/promote"): {"force": True},
    ("POST", "/replication/seal"): {"epoch": 9, "candidate": "r"},
    ("POST", "/replication/pause"): {"seconds": 1},
    ("POST", "/replication/resume"): {},
    ("POST", "/replication/step-down"): {"offset": 1},
    ("POST", "/replication/accept"): {},
    ("POST", "/replication/forget"): {"replica": "r"},
    ("POST", "/clock/confirm"): {},
    ("POST", "/replication/follow"): {"master_address": "127.0.0.1:1"},
    ("POST", "/auth/keys"): {"name": "more"},
    ("DELETE", "/auth/keys/{id:key}"): None,
    ("POST", "/auth/users"): {"username": "eve", "password": PASSWORD, "is_admin": True},
    ("DELETE", "/auth/users/{name:key}"): None,
    ("POST", "/auth/users/{name:key}/password"): {"new_password": "wrong horse"},
    ("POST", "/auth/users/{name:key}/enable"): None,
    ("POST", "/auth/users/{name:key}/disable"): None,
    ("POST", "/auth/users/{name:key}/roles"): {"role": "admin"},
    ("DELETE", "/auth/users/{name:key}/roles/{role:key}"): None,
    ("POST", "/auth/login"): {"username": "ann", "password": "wrong horse"},
}
# Answered with 200: by what they read, and by an envelope that says what was refused.
READING_POSTS = {("POST", "/kv/mget"), ("POST", "/api/v1/command")}


def all_routes(folder: Path) -> list[tuple[str, str]]:
    """Return every method of every path of the application, as it is put together."""
    app = create_app(make_config(folder))
    return [
        (method.method, route.path)
        for route in inspect_compiled_router(app._router)
        for method in route.methods
        if not method.internal and method.method not in ("HEAD", "OPTIONS")
    ]


def filled(path: str) -> str:
    for field, value in (
        ("{name:key}", "ann"),
        ("{role:key}", "reporter"),
        ("{id:key}", "0" * 16),
        ("{key:key}", "guarded"),
        ("{key:kv_key}", "guarded"),
        ("/getrange", "/getrange?start=0&end=1"),
    ):
        path = path.replace(field, value)
    assert "{" not in path, f"{path}: say here what stands for its field"
    return path


def test_every_route_that_writes_is_forbidden_to_a_key_for_reading(
    node: Node, root: As, ann: As, tmp_path: Path
) -> None:
    assert root.post("/kv/set", {"key": "guarded", "value": "5", "ttl": 999}).status == 200
    reader = key_for(root, node, ("*", "read"))
    before = root.get("/digest").json()
    routes = all_routes(tmp_path)
    writing = [route for route in routes if route[0] != "GET"]
    assert set(writing) == set(BODIES), "say in BODIES what a request of each route is"
    for route in writing:
        method, path = route
        for who in (reader, As(node, {})):
            answer = who.send(method, filled(path), BODIES[route])
            allowed = (200,) if who is reader and route in READING_POSTS else (401, 403)
            assert answer.status in allowed, (route, answer)
    assert root.get("/digest").json() == before


def test_every_route_for_reading_is_refused_to_who_may_nothing(
    node: Node, root: As, tmp_path: Path
) -> None:
    nobody = key_for(root, node)
    for method, path in all_routes(tmp_path):
        # The console's files are the same for all, and hold nothing of the node's.
        if method != "GET" or path in PUBLIC | {METRICS} or path.startswith("/console"):
            continue
        assert_unauthorized(As(node, {}).get(filled(path)))
        answer = nobody.get(filled(path))
        if path in ("/kv/scan", "/key/randomkey", "/auth/keys", "/auth/me"):
            assert "guarded" not in answer.body.decode()
        else:
            assert error_of(answer)[:2] == (403, "forbidden"), path


def test_scan_mget_and_randomkey_show_only_what_may_be_read(node: Node, root: As) -> None:
    pairs = [[f"{kind}:{number}", kind] for kind in ("mine", "theirs") for number in range(5)]
    assert root.post("/kv/mset", {"pairs": pairs}).status == 200
    me = key_for(root, node, ("kv:mine:*", "read"))
    first = me.get("/kv/scan?limit=3").json()
    rest = me.get(f"/kv/scan?limit=3&cursor={first['cursor']}").json()
    assert first["keys"] + rest["keys"] == [f"mine:{number}" for number in range(5)]
    assert me.get("/kv/scan?prefix=theirs").json()["keys"] == []
    assert me.get("/key/randomkey").json()["key"].startswith("mine:")
    values = me.post("/kv/mget", {"keys": ["mine:1", "theirs:1"]}).json()["values"]
    assert values == ["mine", None]


def test_rename_and_copy_need_both_keys(node: Node, root: As) -> None:
    assert root.post("/kv/set", {"key": "a:1", "value": "x"}).status == 200
    for permissions in ([("kv:a:*", "all")], [("kv:b:*", "all"), ("kv:a:*", "write")]):
        somebody = key_for(root, node, *permissions)
        for word in ("rename", "copy"):
            assert somebody.post(f"/key/a:1/{word}", {"destination": "b:1"}).status == 403
    both = key_for(root, node, ("kv:a:*", "all"), ("kv:b:*", "all"))
    assert both.post("/key/a:1/rename", {"destination": "b:1"}).status == 200


def test_login_tells_the_user_and_wrong_ones_nothing(node: Node, ann: As) -> None:
    anybody = As(node, {})
    answer = anybody.post("/auth/login", {"username": "ann", "password": PASSWORD}).json()
    shown = {"username": "ann", "roles": ["reporter"], "is_admin": False, "enabled": True}
    assert (answer["success"], answer["user"]) == (True, shown)
    for name in ("ann", "nobody"):
        wrong = {"username": name, "password": "wrong horse"}
        assert_unauthorized(anybody.post("/auth/login", wrong))
    assert anybody.post("/auth/login", {"username": "ann"}).status == 422
    me = ann.get("/auth/me").json()
    assert me == shown | {"permissions": [{"resource": "kv:report:*", "action": "read"}]}


def test_user_changes_his_own_password_and_nothing_else(node: Node, root: As) -> None:
    body = {"username": "bob", "password": PASSWORD, "roles": ["readonly"]}
    assert root.post("/auth/users", body).status == 200
    assert root.post("/auth/users", body).status == 409
    bob = As(node, basic("bob"))
    assert bob.get("/auth/users/bob").json()["roles"] == ["readonly"]
    for answer in (
        bob.get("/auth/users/ann"),
        bob.get("/auth/users"),
        bob.post("/auth/users/ann/password", {"new_password": PASSWORD}),
        bob.post("/auth/users/bob/roles", {"role": "admin"}),
        bob.delete("/auth/users/bob"),
    ):
        assert error_of(answer)[:2] == (403, "forbidden")
    assert bob.post("/auth/users/bob/password", {"new_password": "short"}).status == 422
    assert bob.post("/auth/users/bob/password", {"new_password": "other horse"}).status == 200
    assert_unauthorized(bob.get("/auth/me"))
    assert As(node, basic("bob", "other horse")).get("/auth/me").status == 200


def test_disabled_and_removed_users_and_their_keys_stop_at_once(node: Node, root: As) -> None:
    body = {"username": "cid", "password": PASSWORD, "roles": ["readwrite"]}
    assert root.post("/auth/users", body).status == 200
    by_password = As(node, basic("cid"))
    by_key = As(node, bearer(by_password.key()[0]))
    assert by_key.get("/auth/me").status == 200
    assert root.post("/auth/users/cid/disable").status == 200
    assert_unauthorized(by_key.get("/auth/me"))
    assert_unauthorized(by_password.get("/auth/me"))
    assert root.post("/auth/users/cid/enable").status == 200
    assert by_key.get("/auth/me").status == 200
    assert root.delete("/auth/users/cid/roles/readwrite").status == 200
    assert by_key.get("/kv/get/x").status == 403
    assert root.delete("/auth/users/cid").status == 200
    assert_unauthorized(by_password.get("/auth/me"))
    assert root.post("/auth/users", body).status == 200
    assert_unauthorized(by_key.get("/auth/me"))
    assert root.get("/auth/users/none").status == 404


def test_key_is_shown_once_listed_and_revoked(node: Node, root: As, ann: As) -> None:
    key, id = ann.key("report", allowed_ips=["127.0.0.1", "10.0.0.0/8"], expires_in_seconds=60)
    assert key.startswith("sk_")
    assert len(key) == 35
    (listed,) = [each for each in ann.get("/auth/keys").json()["keys"] if each["id"] == id]
    assert key not in json.dumps(listed)
    assert (listed["name"], listed["username"], listed["permissions"]) == ("report", "ann", None)
    assert listed["expires_at"] - listed["created_at"] == 60
    by_key = As(node, bearer(key))
    assert by_key.get("/auth/me").json()["username"] == "ann"
    assert root.delete(f"/auth/keys/{id}").status == 200
    for _ in range(4):
        assert_unauthorized(by_key.get("/auth/me"))
    assert root.delete(f"/auth/keys/{id}").status == 404


def test_long_poll_of_a_key_that_is_revoked_meanwhile_tells_nothing(node: Node, root: As) -> None:
    key, id = root.key()
    begin = root.get("/watch?wait=0").json()["next"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(As(node, bearer(key)).get, f"/watch?from={begin}&wait=20")
        eventually(lambda: b"\nsynap_watchers 1.0\n" in root.get("/metrics").body)
        assert root.delete(f"/auth/keys/{id}").status == 200
        assert root.post("/kv/set", {"key": "after", "value": "v"}).status == 200
        assert waiting.result(20).json() == {"events": [], "next": begin, "more": False}


def test_nobody_grants_what_he_does_not_have(node: Node, root: As, ann: As) -> None:
    for resource, action in (("kv:report:*", "write"), ("kv:*", "read"), ("*", "all")):
        wanted = {"name": "k", "permissions": [{"resource": resource, "action": action}]}
        assert error_of(ann.post("/auth/keys", wanted))[:2] == (403, "forbidden")
    narrow = [{"resource": "kv:report:1", "action": "read"}]
    key, _ = ann.key(permissions=narrow)
    assert As(node, bearer(key)).get("/kv/get/report:2").status == 403
    administrator = key_for(root, node, ("auth:*", "admin"), ("kv:*", "read"))
    for body, status in (
        ({"username": "eve", "password": PASSWORD, "is_admin": True}, 403),
        ({"username": "eve", "password": PASSWORD, "roles": ["readwrite"]}, 403),
        ({"username": "eve", "password": PASSWORD, "roles": ["reporter"]}, 200),
    ):
        assert administrator.post("/auth/users", body).status == status, body
    assert administrator.post("/auth/users/eve/roles", {"role": "admin"}).status == 403
    wider = {"name": "k", "permissions": [{"resource": "kv:x", "action": "write"}]}
    assert administrator.post("/auth/keys", wider).status == 403
    unsaid, _ = administrator.key()
    assert As(node, bearer(unsaid)).post("/snapshot").status == 403


def test_administrator_of_users_can_not_take_over_who_may_more(node: Node, root: As) -> None:
    body = {"username": "boss", "password": PASSWORD, "is_admin": True}
    assert root.post("/auth/users", body).status == 200
    administrator = key_for(root, node, ("auth:*", "admin"))
    for answer in (
        administrator.post("/auth/users/boss/password", {"new_password": PASSWORD}),
        administrator.post("/auth/users/boss/disable"),
        administrator.delete("/auth/users/boss"),
    ):
        assert error_of(answer)[:2] == (403, "forbidden")
    boss = As(node, bearer(As(node, basic("boss")).key()[0]))
    for answer in (
        boss.post("/auth/users/boss/disable"),
        boss.delete("/auth/users/boss"),
        boss.delete("/auth/users/boss/roles/admin"),
        boss.delete("/auth/users/root"),
        boss.post("/auth/users/root/password", {"new_password": PASSWORD}),
        boss.post("/auth/users", {"username": "root", "password": PASSWORD}),
    ):
        assert error_of(answer)[:2] == (409, "account_conflict")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("users", {"username": "a b", "password": PASSWORD}, "'username'"),
        ("users", {"username": "", "password": PASSWORD}, "'username'"),
        ("users", {"username": "x", "password": "1234567"}, "'password'"),
        ("users", {"username": "x", "password": "x" * 1025}, "'password'"),
        ("users", {"username": "x", "password": PASSWORD, "roles": ["no"]}, "'roles[0]'"),
        ("users", {"username": "x"}, "'password'"),
        ("users/ann/roles", {"role": "no"}, "'role'"),
        ("keys", {}, "'name'"),
        ("keys", {"name": ""}, "'name'"),
        ("keys", {"name": "x", "expires_in_seconds": 0}, "'expires_in_seconds'"),
        ("keys", {"name": "x", "allowed_ips": ["x"]}, "'allowed_ips[0]'"),
        ("keys", {"name": "x", "permissions": [{"resource": "", "action": "read"}]},
         "'permissions[0].resource'"),
        ("keys", {"name": "x", "permissions": [{"resource": "*", "action": "own"}]},
         "'permissions[0].action'"),
    ],
)  # fmt: skip
def test_wrong_field_is_422_that_names_it(
    root: As, ann: As, path: str, body: object, field: str
) -> None:
    answer = root.post(f"/auth/{path}", body)
    assert error_of(answer) == (422, "invalid_field", False)
    assert field in answer.json()["error"]


def test_key_works_from_its_addresses_alone(node: Node, root: As) -> None:
    key, _ = root.key(allowed_ips=["203.0.113.0/24", "2001:db8::/32"])
    for forwarded, status in (
        ("203.0.113.9", 200),
        ("198.51.100.1", 401),
        ("203.0.113.9, 198.51.100.1", 401),
        ("198.51.100.1, 203.0.113.9, 127.0.0.2", 200),
        ("2001:db8::1", 200),
        ("garbage", 401),
    ):
        headers = {**bearer(key), "X-Forwarded-For": forwarded}
        assert As(node, headers).get("/auth/me").status == status, forwarded
    assert_unauthorized(As(node, bearer(key)).get("/auth/me"))


def test_expired_key_is_void(node: Node, root: As) -> None:
    key, _ = root.key(expires_in_seconds=1)
    somebody = As(node, bearer(key))
    assert somebody.get("/auth/me").status == 200
    eventually(lambda: somebody.get("/auth/me").status == 401)


def test_flood_of_wrong_passwords_leaves_the_node_serving(node: Node, root: As) -> None:
    """A hash is made beside the event loop, and only few requests wait for one."""
    statuses: list[int] = []

    def flood(number: int) -> None:
        answer = As(node, basic("ann", f"wrong {number}")).get("/auth/me")
        statuses.append(answer.status)

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        assert root.get("/kv/get/none").status == 404
    for thread in threads:
        thread.join()
    assert set(statuses) == {401, 429}
    assert statuses.count(401) <= 2 * MAX_WAITING_OF_ADDRESS


def audit_lines(node: Node, *words: str) -> list[str]:
    return [line for line in node.log.splitlines() if all(word in line for word in words)]


def test_feed_tells_only_what_may_be_read(node: Node, root: As) -> None:
    begin = root.get("/watch?wait=0").json()["next"]
    root.post("/kv/mset", {"pairs": [["report:a", 1], ["secret:a", 1]]})
    for pattern, shown in (("kv:report:*", True), ("kv:*:a", True), ("kv:none:*", False)):
        told = key_for(root, node, (pattern, "read")).get(f"/watch?from={begin}&wait=0").body
        assert (b'"report:a"' in told) == shown
        assert (b'"secret:a"' in told) == (pattern == "kv:*:a")


def test_export_shows_only_what_may_be_read(node: Node, root: As) -> None:
    root.post("/kv/mset", {"pairs": [["report:a", 1], ["secret:a", 1]]})
    for pattern, shown in (("kv:report:*", True), ("kv:*:a", True), ("kv:none:*", False)):
        exported = key_for(root, node, (pattern, "read")).get("/kv/export").body
        assert (b'"report:a"' in exported) == shown
        assert (b'"secret:a"' in exported) == (pattern == "kv:*:a")


def test_idempotency_key_of_another_caller_is_another_one(node: Node, root: As) -> None:
    named = {**JSON, "Idempotency-Key": "shared"}
    body = json.dumps({"key": "report:counted"}).encode()
    keys = [bearer(root.key()[0]) for _ in range(2)]
    sent = [
        Client(node.port).send("POST", "/kv/incr", body, {**key, **named}) for key in (*keys, *keys)
    ]
    assert [answer.json()["value"] for answer in sent] == [1, 2, 1, 2]
    assert As(node, bearer(root.key()[0])).get("/idempotency/shared").status == 404


def test_permission_is_looked_at_before_what_is_remembered(node: Node, root: As) -> None:
    named = {**JSON, "Idempotency-Key": "lost"}
    reading = [{"action": "read", "resource": "kv:*"}]
    key, _ = root.key(permissions=reading)
    body = json.dumps({"key": "report:lost"}).encode()
    answer = Client(node.port).send("POST", "/kv/incr", body, {**bearer(key), **named})
    assert error_of(answer) == (403, "forbidden", False)


def test_audit_log_has_logins_refusals_and_administration_and_no_secret(
    node: Node, root: As, ann: As
) -> None:
    ann.get("/auth/me")
    ann.get("/kv/get/audited")
    As(node, basic("mallory", "mallory's secret")).get("/auth/me")
    key, id = ann.key("audited")
    root.delete(f"/auth/keys/{id}")
    for words in (
        ("action=login ", "caller=ann", "address=127.0.0.1"),
        ("action=refused", "caller=ann", "kv:audited", "wanted=read"),
        ("action=login_refused", "caller=mallory"),
        ("action=administration", "caller=ann", "POST", "/auth/keys"),
        ("action=administration", "caller=root", "DELETE", id),
    ):
        eventually(lambda words=words: audit_lines(node, *words))
    for secret in (PASSWORD, "mallory's secret", key):
        assert secret not in node.log
