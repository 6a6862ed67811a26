"""One decision for each operation and role, whatever the way in, on a master as on a replica.

Each row says what an operation may be asked with and what it needs; whether a role has that is
decided here by a rule of its own. An operation without a row fails, by name or by path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from synap.http.api.operations.table import BY_NAME
from tests.integration.http.api.test_auth import As, basic, bearer
from tests.integration.http_support import Client
from tests.support import Answer, Cluster, Node, eventually

PASSWORD = "correct horse"
PLACES = re.compile(r"{\w+}")
NOTHING_OPEN = "Invalid request: No transaction in progress"
KEY, OTHER = "own:k", "own:other"
R, W, D = (("read", f"kv:{KEY}"), ("write", f"kv:{KEY}"), ("delete", f"kv:{KEY}"))
OTHERS = (("read", f"kv:{OTHER}"), ("write", f"kv:{OTHER}"))
ALL_KEYS = ("read", "kv:*")
USERS = (("admin", "auth:users"),)

Need = tuple[str, str]

# By the name of the command: its payload and what it needs. The values are such that every one of
# them can be asked again; what is only filtered by permissions needs nothing.
NAMED: dict[str, tuple[dict[str, Any], tuple[Need, ...]]] = {
    "kv.set": ({"key": KEY, "value": "1"}, (W,)),
    "kv.get": ({"key": KEY}, (R,)),
    "kv.del": ({"key": KEY}, (D,)),
    "kv.exists": ({"key": KEY}, (R,)),
    "kv.mget": ({"keys": [KEY]}, ()),
    "kv.mset": ({"pairs": [{"key": KEY, "value": "1"}]}, (W,)),
    "kv.msetnx": ({"pairs": [{"key": KEY, "value": "1"}]}, (R, W)),
    "kv.mdel": ({"keys": [KEY]}, (D,)),
    "kv.incr": ({"key": KEY}, (R, W)),
    "kv.incrby": ({"key": KEY}, (R, W)),
    "kv.decr": ({"key": KEY}, (R, W)),
    "kv.incrbyfloat": ({"key": KEY, "amount": 1.5}, (R, W)),
    "kv.decrby": ({"key": KEY}, (R, W)),
    "kv.append": ({"key": KEY, "value": ""}, (R, W)),
    "kv.getrange": ({"key": KEY, "start": 0, "end": 1}, (R,)),
    "kv.setrange": ({"key": KEY, "offset": 0, "value": "1"}, (R, W)),
    "kv.strlen": ({"key": KEY}, (R,)),
    "kv.getset": ({"key": KEY, "value": "1"}, (R, W)),
    "kv.expire": ({"key": KEY, "ttl": 900}, (R, W)),
    "kv.persist": ({"key": KEY}, (R, W)),
    "kv.ttl": ({"key": KEY}, (R,)),
    "kv.scan": ({}, ()),
    "kv.keys": ({}, ()),
    "kv.stats": ({}, (ALL_KEYS,)),
    "kv.dbsize": ({}, (ALL_KEYS,)),
    "kv.flushdb": ({}, (("delete", "kv:*"),)),
    "kv.flushall": ({}, (("delete", "kv:*"),)),
    "kv.txn": (
        {
            "if": [{"key": KEY, "exists": True}],
            "then": [{"set": {"key": OTHER, "value": "1"}}],
            "else": [{"get": {"key": OTHER}}, {"incr": {"key": KEY}}, {"del": {"key": KEY}}],
        },
        (R, ("write", f"kv:{OTHER}"), ("read", f"kv:{OTHER}"), R, W, D),
    ),
    "key.type": ({"key": KEY}, (R,)),
    "key.exists": ({"key": KEY}, (R,)),
    "key.rename": ({"source": KEY, "destination": KEY}, (R, D, W)),
    "key.renamenx": ({"source": KEY, "destination": KEY}, (R, D, W)),
    "key.copy": (
        {"source": KEY, "destination": OTHER},
        (R, ("read", f"kv:{OTHER}"), ("write", f"kv:{OTHER}")),
    ),
    "key.randomkey": ({}, ()),
    "memory.usage": ({"key": KEY}, (R,)),
    "admin.stats": ({}, (("admin", "node:stats"), ALL_KEYS)),
    "info": ({}, (("admin", "node:info"), ALL_KEYS)),
    "slowlog.get": ({}, (("admin", "node:slowlog"),)),
    "slowlog.reset": ({}, (("admin", "node:slowlog"),)),
    "client.list": ({}, (("admin", "node:clients"),)),
    "admin.config": ({}, (("admin", "node:config"),)),
    "transaction.watch": ({"keys": [KEY]}, (R,)),
}
# Their decision is `any permission`.
TRANSACTIONS = {
    "transaction.multi",
    "transaction.exec",
    "transaction.discard",
    "transaction.unwatch",
}
# Of these the routes are the same operations.
ROUTES = {
    "POST /kv/set": "kv.set", "GET /kv/get/{key}": "kv.get", "DELETE /kv/del/{key}": "kv.del",
    "POST /kv/mget": "kv.mget", "POST /kv/mset": "kv.mset", "POST /kv/msetnx": "kv.msetnx",
    "POST /kv/mdel": "kv.mdel", "POST /kv/incr": "kv.incr", "POST /kv/decr": "kv.decr",
    "POST /kv/incrbyfloat": "kv.incrbyfloat",
    "POST /kv/{key}/append": "kv.append", "GET /kv/{key}/getrange": "kv.getrange",
    "POST /kv/{key}/setrange": "kv.setrange", "GET /kv/{key}/strlen": "kv.strlen",
    "POST /kv/{key}/getset": "kv.getset", "POST /kv/{key}/expire": "kv.expire",
    "POST /kv/{key}/persist": "kv.persist", "GET /kv/{key}/ttl": "kv.ttl",
    "GET /kv/scan": "kv.scan", "POST /kv/txn": "kv.txn",
    "GET /kv/stats": "kv.stats", "GET /key/{key}/type": "key.type",
    "GET /key/{key}/exists": "key.exists", "POST /key/{key}/rename": "key.rename",
    "POST /key/{key}/renamenx": "key.renamenx", "POST /key/{key}/copy": "key.copy",
    "GET /key/randomkey": "key.randomkey", "GET /memory/{key}/usage": "memory.usage",
    "GET /stats": "admin.stats", "GET /info": "info", "GET /slowlog": "slowlog.get",
    "DELETE /slowlog": "slowlog.reset", "GET /clients": "client.list",
    "GET /config": "admin.config",
}  # fmt: skip
# Routes alone: body, headers, needs.
ALONE: dict[str, tuple[Any, dict[str, str], tuple[Need, ...]]] = {
    "GET /raw/{key}": (None, {}, (R,)),
    "PUT /raw/{key}": (b"1", {}, (W,)),
    "DELETE /raw/{key}": (None, {}, (D,)),
    "GET /idempotency/{key}": (None, {}, ()),
    "GET /kv/export": (None, {}, ()),
    "GET /watch": (None, {}, ()),
    "POST /kv/import": (b'{"key":"%s","value":"1"}' % KEY.encode(), {}, (W,)),
    "GET /health/replication": (None, {}, (("read", "node:replication"),)),
    "GET /cluster": (None, {}, (("read", "node:cluster"),)),
    "GET /cluster/slots": (None, {}, (("admin", "node:slots"),)),
    "POST /cluster/slots/step": ({"slot": 1, "step": "thaw"}, {}, (("admin", "node:slots"),)),
    "POST /cluster/slots/clear": ({"slot": 1, "keys": []}, {}, (("admin", "node:slots"),)),
    "GET /cluster/slots/requests": (None, {}, (("admin", "node:slots"),)),
    "POST /cluster/slots/requests": ({"slot": 1, "records": []}, {}, (("admin", "node:slots"),)),
    "GET /digest": (None, {}, (("admin", "node:digest"),)),
    "GET /digest/range": (None, {}, (("admin", "node:digest"),)),
    "GET /openapi.json": (None, {}, (("read", "node:openapi.json"),)),
    "GET /docs": (None, {}, (("read", "node:docs"),)),
    "GET /docs/page.js": (None, {}, (("read", "node:docs"),)),
    "GET /docs/page.css": (None, {}, (("read", "node:docs"),)),
    "GET /docs/swagger-ui.js": (None, {}, (("read", "node:docs"),)),
    "GET /docs/swagger-ui.css": (None, {}, (("read", "node:docs"),)),
    "GET /backup": (None, {}, (("admin", "node:backup"),)),
    "POST /snapshot": (None, {}, (("admin", "node:snapshot"),)),
    "POST /verify": (None, {}, (("admin", "node:verify"),)),
    # Bodies that whoever is let in is refused for, so that the roles of the nodes stay.
    "POST /replication/promote": ({"force": "?"}, {}, (("admin", "node:promote"),)),
    "GET /replication/history": (None, {}, (("admin", "node:history"),)),
    "POST /replication/seal": ({"epoch": 0, "candidate": "r"}, {}, (("admin", "node:seal"),)),
    "POST /replication/follow": ({}, {}, (("admin", "node:follow"),)),
    "POST /replication/pause": ({"seconds": -1}, {}, (("admin", "node:pause"),)),
    "POST /replication/resume": (None, {}, (("admin", "node:resume"),)),
    "POST /replication/step-down": (
        {"offset": 1, "master_url": ""},
        {},
        (("admin", "node:step-down"),),
    ),
    "POST /replication/forget": ({"replica": ""}, {}, (("admin", "node:forget"),)),
    "POST /replication/accept": (None, {}, (("admin", "node:accept"),)),
    "POST /clock/confirm": (None, {}, (("admin", "node:confirm"),)),
    # Of these, what callers see of themselves needs nothing; all ask by keys.
    "GET /auth/me": (None, {}, ()),
    "GET /auth/keys": (None, {}, ()),
    "POST /auth/keys": ({}, {}, (("admin", "auth:keys"),)),
    "DELETE /auth/keys/{id}": (None, {}, (("admin", "auth:keys"),)),
    "GET /auth/roles": (None, {}, (("admin", "auth:roles"),)),
    "GET /auth/users": (None, {}, USERS),
    "POST /auth/users": ({}, {}, USERS),
    "GET /auth/users/{name}": (None, {}, USERS),
    "DELETE /auth/users/{name}": (None, {}, USERS),
    "POST /auth/users/{name}/password": ({"new_password": PASSWORD}, {}, USERS),
    "POST /auth/users/{name}/enable": (None, {}, USERS),
    "POST /auth/users/{name}/disable": (None, {}, USERS),
    "POST /auth/users/{name}/roles": ({"role": "readonly"}, {}, USERS),
    "DELETE /auth/users/{name}/roles/{role}": (None, {}, USERS),
}
# Everybody's, with whatever credentials.
OPEN = {
    "GET /health", "GET /liveness", "GET /readiness", "GET /primary", "GET /replica",
    "GET /read-only", "GET /metrics", "GET /",
    "GET /console", "GET /console/{file}",
    "GET /console/settings.json",
}  # fmt: skip
# Everybody's who has no wrong credentials: it looks at those in the body.
LOGIN = "POST /auth/login"
# With the condition, a write tells whether the key is there.
CONDITIONAL: dict[str, tuple[str, Any, dict[str, str], tuple[Need, ...]]] = {
    **{
        f"set {more}": ("POST /kv/set", {"key": KEY, "value": "1", **more}, {}, (R, W))
        for more in ({"nx": True}, {"xx": True}, {"get": True}, {"if_version": "1-9f2c11aa"})
    },
    **{
        f"PUT {name}: {tag}": (f"PUT /raw/{KEY}", b"1", {name: tag}, (R, W))
        for name in ("If-Match", "If-None-Match")
        for tag in ("*", '"1"')
    },
    'DELETE If-Match: "1"': (f"DELETE /raw/{KEY}", None, {"If-Match": '"1"'}, (R, D)),
}

GRANTS: dict[str, tuple[Need, ...]] = {
    "admin": (("all", "*"),),
    "readwrite": (("read", "kv:*"), ("write", "kv:*"), ("delete", "kv:*"), ("read", "node:*")),
    "readonly": (("read", "kv:*"), ("read", "node:*")),
    "own keys": (("all", "kv:own:*"),),
    "other keys": (("all", "kv:elsewhere:*"),),
    "writer": (("write", "kv:*"),),
    "remover": (("delete", "kv:*"),),
}
ROLES = [*GRANTS, "anonymous", "revoked"]


def expected(role: str, needs: tuple[Need, ...]) -> str:
    if role not in GRANTS:
        return "unknown"
    return (
        "let"
        if all(any(covers(grant, need) for grant in GRANTS[role]) for need in needs)
        else "forbidden"
    )


def covers(grant: Need, need: Need) -> bool:
    action, pattern = grant
    fits = need[1].startswith(pattern[:-1]) if pattern.endswith("*") else need[1] == pattern
    return fits and action in ("all", need[0])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = {
        "auth__enabled": True, "auth__root__password": PASSWORD,
        "kv_store__allow_flush_commands": True,
    }  # fmt: skip
    with Cluster(tmp_path_factory.mktemp("decisions"), replicas=1, **settings) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def headers(cluster: Cluster) -> dict[str, dict[str, str]]:
    """Return credentials for each role; keys, which cost no hash."""
    root = As(cluster.master, basic("root"))
    made: dict[str, dict[str, str]] = {"anonymous": {}}
    for role, grants in GRANTS.items():
        wanted = [{"action": action, "resource": resource} for action, resource in grants]
        made[role] = bearer(root.key(permissions=wanted)[0])
    key, key_id = root.key()
    made["revoked"] = bearer(key)
    assert root.delete(f"/auth/keys/{key_id}").status == 200
    replica = cluster.replicas[0]
    eventually(
        lambda: replica.request("GET", "/auth/me", None, made["remover"]).status in (200, 403)
    )
    return made


@pytest.fixture(params=["master", "replica"])
def node(request: pytest.FixtureRequest, cluster: Cluster) -> Node:
    return cluster.master if request.param == "master" else cluster.replicas[0]


def decision(answer: Answer) -> str:
    if answer.status in (401, 403):
        return "unknown" if answer.status == 401 else "forbidden"
    if not answer.headers.get("content-type", "").startswith("application/json"):
        return "let"
    told = answer.json()
    if isinstance(told, dict) and told.get("type") == "batch_response":
        (told,) = told["results"]
    error = told.get("error") if isinstance(told, dict) else None
    return "forbidden" if str(error or "").startswith("Forbidden: ") else "let"


def asked(node: Node, route: str, body: Any, headers: dict[str, str]) -> str:
    method, path = route.split(" ")
    # A long poll would wait.
    path = path.replace("/watch", "/watch?wait=0")
    if isinstance(body, dict):
        headers, body = {**headers, "Content-Type": "application/json"}, json.dumps(body).encode()
    return decision(Client(node.port).send(method, PLACES.sub(KEY, path), body, headers))


def by_name(node: Node, name: str, payload: Any, headers: dict[str, str], batch: bool) -> str:
    one = {"command": name, "payload": payload}
    body = {"type": "batch", "commands": [one]} if batch else one
    return asked(node, "POST /api/v1/command", body, headers)


def by_route(route: str) -> tuple[str, Any]:
    """Return the route with what the row of its command says, and the body."""
    payload = dict(NAMED[ROUTES[route]][0])
    method, path = route.split(" ")
    if "{key}" in path:
        payload.pop("key", payload.pop("source", None))
    if method != "POST":
        query = "&".join(f"{name}={value}" for name, value in payload.items())
        return (f"{route}?{query}" if query else route), None
    return route, payload


def test_every_operation_has_a_row(cluster: Cluster, headers: dict[str, dict[str, str]]) -> None:
    document = cluster.master.request("GET", "/openapi.json", None, headers["admin"]).json()
    known = {*ROUTES, *ALONE, *OPEN, LOGIN, "POST /api/v1/command"}
    paths = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert paths == known
    assert BY_NAME.keys() == NAMED.keys() | TRANSACTIONS


@pytest.mark.parametrize("role", ROLES)
def test_decision_is_the_same_by_every_way(
    node: Node, headers: dict[str, dict[str, str]], role: str
) -> None:
    wrong = []
    for name, (payload, needs) in NAMED.items():
        for batch in (False, True):
            found = by_name(node, name, payload, headers[role], batch)
            if found != expected(role, needs):
                wrong.append((name, "batch" if batch else "command", found))
    for route in ROUTES:
        target, body = by_route(route)
        found = asked(node, target, body, headers[role])
        if found != expected(role, NAMED[ROUTES[route]][1]):
            wrong.append((route, "route", found))
    for route, (body, more, needs) in ALONE.items():
        found = asked(node, route, body, {**headers[role], **more})
        if found != expected(role, needs):
            wrong.append((route, "route", found))
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
def test_public_paths_are_for_every_role(
    node: Node, headers: dict[str, dict[str, str]], role: str
) -> None:
    found = {route: asked(node, route, None, headers[role]) for route in OPEN}
    assert set(found.values()) == {"let"}, found
    told = asked(node, LOGIN, {}, headers[role])
    assert told == ("unknown" if role == "revoked" else "let")


def test_what_a_route_needs_is_enough(
    cluster: Cluster, node: Node, headers: dict[str, dict[str, str]]
) -> None:
    """Each route by a key that has what the row says and nothing else."""
    root = As(cluster.master, headers["admin"])
    wanted = sorted({needs for _, _, needs in ALONE.values() if needs})
    keys = {}
    for needs in wanted:
        grants = [{"action": action, "resource": resource} for action, resource in needs]
        keys[needs] = bearer(root.key(permissions=grants)[0])
    eventually(lambda: node.request("GET", "/auth/me", None, keys[wanted[-1]]).status == 200)
    wrong = []
    for route, (body, more, needs) in ALONE.items():
        if needs and asked(node, route, body, {**keys[needs], **more}) != "let":
            wrong.append(route)
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
def test_condition_on_a_key_is_for_those_who_may_read_it(
    node: Node, headers: dict[str, dict[str, str]], role: str
) -> None:
    wrong = []
    for name, (route, body, more, needs) in CONDITIONAL.items():
        found = asked(node, route, body, {**headers[role], **more})
        if found != expected(role, needs):
            wrong.append((name, found))
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
def test_decision_inside_a_transaction_is_the_same(
    cluster: Cluster, headers: dict[str, dict[str, str]], role: str
) -> None:
    """Whoever may do anything may open one; what he queues is decided as it comes."""
    node, client = cluster.master, {"client_id": role}
    assert by_name(node, "transaction.multi", client, headers[role], False) == expected(role, ())
    for name in ("kv.set", "kv.del", "kv.incr", "kv.decr"):
        payload, needs = NAMED[name]
        assert by_name(node, name, {**payload, **client}, headers[role], False) == expected(
            role, needs
        )
    assert by_name(node, "transaction.exec", client, headers[role], False) == expected(role, ())


def run(node: Node, credentials: dict[str, str], name: str, **payload: Any) -> Any:
    answer = As(node, credentials).post("/api/v1/command", {"command": name, "payload": payload})
    return answer.json()


def test_key_does_not_carry_out_or_see_its_owners_transaction(
    cluster: Cluster, headers: dict[str, dict[str, str]]
) -> None:
    """A limited key of the same user, by the same client id."""
    node, owner, limited = cluster.master, headers["admin"], headers["other keys"]
    run(node, owner, "transaction.multi", client_id="c")
    run(node, owner, "kv.set", key="secret:t", value="1", client_id="c")
    refused = run(node, limited, "transaction.exec", client_id="c")
    assert (refused["success"], refused["error"]) == (
        False,
        NOTHING_OPEN,
    )
    assert run(node, owner, "kv.exists", key="secret:t")["payload"] == {"exists": False}
    assert run(node, owner, "transaction.exec", client_id="c")["payload"]["success"]


def test_permissions_are_looked_at_again_when_a_transaction_is_carried_out(
    cluster: Cluster, headers: dict[str, dict[str, str]]
) -> None:
    node, root = cluster.master, As(cluster.master, headers["admin"])
    ann = {"username": "ann", "password": PASSWORD, "roles": ["readwrite"]}
    assert root.post("/auth/users", ann).status == 200
    run(node, basic("ann"), "transaction.multi")
    run(node, basic("ann"), "kv.set", key="late", value="1", client_id="")
    assert root.post("/auth/users/ann/roles", {"role": "readonly"}).status == 200
    assert root.delete("/auth/users/ann/roles/readwrite").status == 200
    refused = run(node, basic("ann"), "transaction.exec")
    assert not refused["success"]
    assert refused["error"].startswith("Forbidden: ")
    assert run(node, headers["admin"], "kv.exists", key="late")["payload"] == {"exists": False}
    assert not run(node, basic("ann"), "transaction.exec")["success"]


def test_user_made_anew_under_an_old_name_has_nothing_open(
    cluster: Cluster, headers: dict[str, dict[str, str]]
) -> None:
    node, root = cluster.master, As(cluster.master, headers["admin"])
    eve = {"username": "eve", "password": PASSWORD, "roles": ["readwrite"]}
    assert root.post("/auth/users", eve).status == 200
    run(node, basic("eve"), "transaction.multi")
    assert root.delete("/auth/users/eve").status == 200
    assert root.post("/auth/users", eve).status == 200
    ended = run(node, basic("eve"), "transaction.exec")
    assert ended["error"] == NOTHING_OPEN
