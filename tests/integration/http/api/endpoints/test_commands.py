"""`POST /api/v1/command`: every command, the envelopes, and the batches."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from synap.wal.walk import LogWalk
from tests.integration.http_support import Client, error_of, offset_of
from tests.support import Answer, Node

PATH = "/api/v1/command"


class Session:
    """Sends commands; `{k}` in names stands for keys of the test's own."""

    def __init__(self, client: Client, key: str) -> None:
        self.client = client
        self.key = key

    def send(self, command: str, payload: object = None, **headers: str) -> Answer:
        body = {"command": command, "request_id": "r1", "payload": payload}
        sent = {"Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = json.dumps(body).replace("{k}", self.key).encode()
        return self.client.send("POST", PATH, content, sent)

    def ask(self, command: str, payload: object = None) -> Any:
        """Return the result payload; the command must work."""
        answer = self.send(command, payload)
        envelope = answer.json()
        assert answer.status == 200, answer.body
        assert envelope["success"] is True, envelope
        assert envelope.keys() == {"success", "request_id", "payload", "error"}
        assert (envelope["request_id"], envelope["error"]) == ("r1", None)
        return self.own(envelope["payload"])

    def fail(self, command: str, payload: object = None) -> str:
        """Return the error; the command must fail with 200."""
        answer = self.send(command, payload)
        envelope = answer.json()
        assert answer.status == 200, answer.body
        expected = {"success": False, "request_id": "r1", "payload": None}
        error: str = envelope.pop("error")
        assert envelope == expected
        return error.replace(self.key, "{k}")

    def own(self, result: Any) -> Any:
        return json.loads(json.dumps(result).replace(self.key, "{k}"))


@pytest.fixture
def session(client: Client, key: str) -> Session:
    return Session(client, re.sub(r"\W", "_", key))


# What is stored before is a=1, t=text with a deadline and j={"x": [1]}; None is a missing key.
BEFORE = [
    ("kv.mset", {"pairs": [["{k}a", 1], {"key": "{k}j", "value": {"x": [1]}}]}),
    ("kv.set", {"key": "{k}t", "value": "text", "ttl": 100}),
]
ROWS: list[tuple[str, object, object]] = [
    ("kv.set", {"key": "{k}n", "value": [1, None]}, {"success": True}),
    ("kv.set", {"key": "{k}n", "value": "v", "ttl": 5}, {"success": True}),
    (
        "kv.set",
        {"key": "{k}a", "value": 2, "nx": True},
        {"success": True, "written": False, "reason": "key_exists"},
    ),
    (
        "kv.set",
        {"key": "{k}a", "value": 2, "get": True},
        {"success": True, "written": True, "old_value": "1"},
    ),
    ("kv.get", {"key": "{k}a"}, "1"),
    ("kv.get", {"key": "{k}j"}, '{"x":[1]}'),
    ("kv.get", {"key": "{k}a", "type": "bytes"}, [49]),
    ("kv.get", {"key": "{k}none"}, None),
    ("kv.del", {"key": "{k}a"}, {"deleted": True}),
    ("kv.del", {"key": "{k}none"}, {"deleted": False}),
    ("kv.del", {"keys": ["{k}a", "{k}t", "{k}none"]}, {"deleted": 2}),
    ("kv.exists", {"key": "{k}a"}, {"exists": True}),
    ("kv.exists", {"key": "{k}none"}, {"exists": False}),
    ("kv.incr", {"key": "{k}a"}, {"value": 2}),
    ("kv.incrby", {"key": "{k}a", "amount": 5}, {"value": 6}),
    ("kv.decr", {"key": "{k}none"}, {"value": -1}),
    ("kv.decrby", {"key": "{k}a", "amount": 5}, {"value": -4}),
    ("kv.incrbyfloat", {"key": "{k}a", "amount": 0.25}, {"value": 1.25}),
    ("kv.mset", {"key": "{k}one", "value": 1}, {"success": True}),
    ("kv.msetnx", {"pairs": [["{k}n", 1], ["{k}a", 1]]}, {"success": False}),
    ("kv.msetnx", {"pairs": [["{k}n", 1]]}, {"success": True}),
    (
        "kv.mget",
        {"keys": ["{k}a", "{k}t", "{k}j", "{k}none"]},
        {"values": [1, "text", {"x": [1]}, None]},
    ),
    ("kv.mdel", {"keys": ["{k}a", "{k}none"]}, {"deleted": 1}),
    (
        "kv.scan",
        {"prefix": "{k}", "count": 10},
        {"keys": ["{k}a", "{k}j", "{k}t"], "count": 3, "cursor": None, "has_more": False},
    ),
    ("kv.expire", {"key": "{k}a", "ttl": 5}, {"result": True}),
    ("kv.expire", {"key": "{k}none", "ttl": 5}, {"result": False}),
    ("kv.persist", {"key": "{k}t"}, {"result": True}),
    ("kv.persist", {"key": "{k}a"}, {"result": False}),
    ("kv.ttl", {"key": "{k}a"}, {"ttl": None}),
    ("kv.append", {"key": "{k}t", "value": "!"}, {"length": 5}),
    ("kv.setrange", {"key": "{k}t", "offset": 3, "value": "t!"}, {"length": 5}),
    ("kv.getrange", {"key": "{k}t", "start": 1, "end": -2}, "ex"),
    ("kv.getrange", {"key": "{k}none", "start": 1, "end": -2}, None),
    ("kv.strlen", {"key": "{k}t"}, {"length": 4}),
    ("kv.strlen", {"key": "{k}none"}, {"length": 0}),
    ("kv.getset", {"key": "{k}t", "value": "new"}, "text"),
    ("kv.getset", {"key": "{k}none", "value": "new"}, None),
    ("key.type", {"key": "{k}a"}, {"key": "{k}a", "type": "string"}),
    ("key.type", {"key": "{k}none"}, {"key": "{k}none", "type": "none"}),
    ("key.exists", {"key": "{k}a"}, {"key": "{k}a", "exists": True}),
    (
        "key.rename",
        {"source": "{k}a", "destination": "{k}t"},
        {"success": True, "source": "{k}a", "destination": "{k}t"},
    ),
    (
        "key.renamenx",
        {"source": "{k}a", "destination": "{k}b"},
        {"success": True, "source": "{k}a", "destination": "{k}b"},
    ),
    (
        "key.copy",
        {"source": "{k}a", "destination": "{k}t", "replace": True},
        {"success": True, "source": "{k}a", "destination": "{k}t"},
    ),
]


@pytest.mark.parametrize(("command", "payload", "expected"), ROWS)
def test_command_answers_its_row_of_the_contract(
    session: Session, command: str, payload: object, expected: object
) -> None:
    for each in BEFORE:
        session.ask(*each)
    assert session.ask(command, payload) == expected


WHAT_THERE_IS = (
    "this node holds one value a key and knows admin.*, client.*, key.*, kv.*, memory.*, "
    "slowlog.*, transaction.*: see /docs"
)
FLUSH_IS_OFF = (
    "Forbidden: removing every key is turned off; kv_store.allow_flush_commands turns it on"
)
REFUSALS: list[tuple[str, object, str]] = [
    ("kv.set", {"value": 1}, "Invalid request: Missing 'key' field"),
    ("kv.set", {"key": "{k}"}, "Invalid request: Missing 'value' field"),
    (
        "kv.set",
        {"key": 1, "value": 1},
        "Invalid request: field 'key': expected a string, got an integer",
    ),
    (
        "kv.set",
        {"key": "{k}", "value": 1, "nx": True, "xx": True},
        "Invalid request: fields 'nx' and 'xx' exclude each other",
    ),
    ("kv.get", {"key": ""}, "Invalid request: the key is empty; it must have 1 to 503 bytes"),
    ("kv.del", {}, "Invalid request: Missing 'key' field"),
    ("kv.mget", {}, "Invalid request: Missing 'keys' field"),
    ("kv.ttl", {"key": "{k}none"}, "Key not found: {k}none"),
    ("memory.usage", {"key": "{k}none"}, "Key not found: {k}none"),
    ("key.rename", {"source": "{k}none", "destination": "{k}x"}, "Key not found: {k}none"),
    (
        "key.renamenx",
        {"source": "{k}t", "destination": "{k}a"},
        "Invalid request: The destination key exists.",
    ),
    (
        "key.copy",
        {"source": "{k}t", "destination": "{k}a"},
        "Invalid request: The destination key exists.",
    ),
    ("kv.incr", {"key": "{k}t"}, "Invalid value: the value is not a decimal integer of 64 bits"),
    ("kv.incr", {"key": "{k}a", "amount": 2**63}, "Invalid value: field 'amount': beyond 64 bits"),
    ("kv.scan", {"limit": 0}, "Invalid request: parameter 'limit' is below 1"),
    ("kv.getrange", {"key": "{k}t"}, "Invalid request: Missing 'start' field"),
    ("kv.flushall", {}, FLUSH_IS_OFF),
    ("kv.flushdb", {}, FLUSH_IS_OFF),
    ("hash.set", {"key": "{k}"}, f"Unknown command: hash.set; {WHAT_THERE_IS}"),
    ("list.lpush", {"key": "{k}"}, f"Unknown command: list.lpush; {WHAT_THERE_IS}"),
    ("kv.gett", {"key": "{k}"}, "Unknown command: kv.gett; did you mean 'kv.get'?"),
    ("kv.zzzzzz", {"key": "{k}"}, "Unknown command: kv.zzzzzz; see /docs"),
    ("kv.get", [1], "Invalid request: the payload: expected an object, got an array"),
    ("transaction.exec", {"client_id": "{k}"}, "Invalid request: No transaction in progress"),
    ("transaction.discard", {"client_id": "{k}"}, "Invalid request: No transaction in progress"),
    (
        "transaction.watch",
        {"client_id": "{k}", "keys": []},
        "Invalid request: Keys list cannot be empty",
    ),
]


@pytest.mark.parametrize(("command", "payload", "error"), REFUSALS)
def test_refusal_is_200_with_the_prefix_of_its_kind(
    session: Session, command: str, payload: object, error: str
) -> None:
    for each in BEFORE:
        session.ask(*each)
    assert session.fail(command, payload) == error


def test_ttl_and_stats_tell_what_rest_tells(session: Session) -> None:
    session.ask("kv.set", {"key": "{k}", "value": 1, "ttl": 100})
    assert session.ask("kv.ttl", {"key": "{k}"})["ttl"] in (99, 100)
    assert session.ask("kv.stats").keys() == session.client.get("/kv/stats").json().keys()
    assert session.ask("kv.dbsize") == {"size": session.ask("kv.stats")["total_keys"]}
    assert session.ask("key.randomkey")["key"]
    usage = session.client.get(f"/memory/{session.key}/usage").json()
    assert session.ask("memory.usage", {"key": "{k}"})["bytes"] == usage["bytes"]


def test_commands_on_the_node_tell_what_rest_tells(session: Session) -> None:
    client = session.client
    assert session.ask("info").keys() == client.get("/info").json().keys()
    assert (
        session.ask("info", {"section": "keyspace"}) == client.get("/info?section=keyspace").json()
    )
    assert session.fail("info", {"section": "none"}).startswith("Invalid request: ")
    assert session.ask("admin.stats").keys() == client.get("/stats").json().keys()
    assert session.ask("client.list").keys() == {"clients", "count"}
    assert session.ask("slowlog.get", {"count": 1}).keys() == {"entries", "total"}
    assert session.ask("slowlog.reset") == {"success": True}


def test_mget_keeps_the_text_of_what_is_json(session: Session) -> None:
    texts = {"n": "1.10", "big": "1" * 50, "s": '"quoted"', "broken": '{"a":', "inf": "1e400"}
    session.ask("kv.mset", {"pairs": [[f"{{k}}{name}", text] for name, text in texts.items()]})
    answer = session.send("kv.mget", {"keys": [f"{{k}}{name}" for name in texts]})
    assert answer.body.decode().partition('"values":')[2].partition("]")[0] == (
        f'[1.10,{"1" * 50},"quoted","{{\\"a\\":","1e400"'
    )


def test_mget_and_get_of_bytes_that_are_no_text_say_so(session: Session) -> None:
    session.client.send("PUT", f"/raw/{session.key}", b"\xff\x00")
    assert session.ask("kv.mget", {"keys": ["{k}"]}) == {"values": [{"value_base64": "/wA="}]}
    assert session.ask("kv.get", {"key": "{k}"}) == "<binary data: 2 bytes>"


def test_scan_pages_and_keys_lists(session: Session) -> None:
    session.ask("kv.mset", {"pairs": [[f"{{k}}{number}", 1] for number in range(5)]})
    page = session.ask("kv.scan", {"prefix": "{k}", "limit": 2, "cursor": "0"})
    seen = page["keys"]
    while page["has_more"]:
        page = session.ask("kv.scan", {"prefix": "{k}", "limit": 2, "cursor": page["cursor"]})
        seen += page["keys"]
    assert seen == [f"{{k}}{number}" for number in range(5)]
    assert session.ask("kv.keys", {"pattern": "{k}[0-2]"}) == {"keys": seen[:3], "count": 3}


def test_keys_beyond_its_bound_says_that_it_cut(session: Session) -> None:
    for start in (0, 5001):
        pairs = [[f"{{k}}{number:05}", 1] for number in range(start, start + 5001)]
        session.ask("kv.mset", {"pairs": pairs})
    cut = session.ask("kv.keys", {"pattern": "{k}*"})
    assert (cut["count"], len(cut["keys"]), cut["truncated"]) == (10_000, 10_000, True)
    rest = session.ask("kv.scan", {"pattern": "{k}*", "cursor": cut["cursor"]})
    assert rest["keys"] == ["{k}10000", "{k}10001"]


def test_envelope_without_id_and_payload_has_all_four_keys(client: Client) -> None:
    answer = client.post(PATH, {"command": "kv.dbsize", "more": 1})
    assert answer.json().items() >= {"success": True, "request_id": None, "error": None}.items()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not JSON"),
        (b'{"request_id":"r"}', 422, "'command'"),
        (b'{"command":1}', 422, "'command'"),
        (b"[]", 422, "object"),
        (b'{"type":"batch"}', 422, "'commands'"),
        (b'{"type":"batch","commands":[{}]}', 422, "'commands[0].command'"),
        (
            json.dumps({"type": "batch", "commands": [{"command": "x"}] * 1001}).encode(),
            422,
            "1000",
        ),
    ],
)
def test_what_does_not_parse_is_an_error_of_rest(
    client: Client, body: bytes, status: int, words: str
) -> None:
    answer = client.post(PATH, body)
    assert error_of(answer)[0] == status
    assert words in answer.json()["error"]


def test_value_over_the_limit_is_413_that_is_an_envelope_too(session: Session) -> None:
    answer = session.send("kv.set", {"key": "{k}", "value": "x" * 100_001})
    assert error_of(answer) == (413, "value_too_large", False)
    envelope = answer.json()
    assert (envelope["success"], envelope["request_id"], envelope["payload"]) == (False, "r1", None)
    assert envelope["error"].startswith("Invalid value: ")
    assert session.client.post(PATH, b" " * (1024 * 1024 + 1)).status == 413


def test_offset_headers_hold_here_too(session: Session) -> None:
    written = offset_of(session.send("kv.set", {"key": "{k}", "value": 1}))
    read = session.send("kv.get", {"key": "{k}"}, X_Synap_Min_Offset=str(written))
    assert offset_of(read) >= written
    late = session.send("kv.get", {"key": "{k}"}, X_Synap_Min_Offset=str(written + 10**9))
    assert error_of(late) == (503, "not_caught_up", True)
    refused = session.send("kv.set", {"key": "{k}", "value": 1}, X_Synap_Min_Replicas="1")
    assert refused.json()["error"].startswith("Invalid request: this node is standalone")
    assert session.send("kv.get", {"key": "{k}"}, X_Synap_Min_Replicas="x").status == 400


def _batch(session: Session, *commands: tuple[str, object]) -> Answer:
    sent = [{"command": command, "payload": payload} for command, payload in commands]
    body = {"type": "batch", "request_id": "b", "commands": sent}
    return session.client.post(PATH, json.dumps(body).replace("{k}", session.key).encode())


def test_batch_answers_each_command_in_order(session: Session) -> None:
    answer = _batch(
        session,
        ("kv.set", {"key": "{k}", "value": 5}),
        ("kv.incr", {"key": "{k}"}),
        ("kv.get", {"key": "{k}"}),
        ("kv.append", {"key": "{k}", "value": "x"}),
        ("kv.incr", {"key": "{k}"}),
        ("nothing", {}),
        ("kv.get", {"key": "{k}"}),
    )
    body = answer.json()
    assert (body["type"], body["request_id"]) == ("batch_response", "b")
    told = [each["payload"] if each["success"] else each["error"] for each in body["results"]]
    assert told == [
        {"success": True},
        {"value": 6},
        "6",
        {"length": 2},
        "Invalid value: the value is not a decimal integer of 64 bits",
        f"Unknown command: nothing; {WHAT_THERE_IS}",
        "6x",
    ]
    assert all(
        each.keys() == {"success", "request_id", "payload", "error"} for each in body["results"]
    )
    assert offset_of(answer) == offset_of(session.send("kv.get", {"key": "{k}"}))


def test_batch_of_a_thousand_writes_is_carried_out_whole(session: Session) -> None:
    answer = _batch(session, *[("kv.incr", {"key": "{k}"})] * 1000)
    assert [each["payload"]["value"] for each in answer.json()["results"]] == list(range(1, 1001))


def test_batch_of_writes_is_one_message_and_so_one_frame(session: Session, http_node: Node) -> None:
    answer = _batch(session, *[("kv.incr", {"key": "{k}"})] * 3)
    last = offset_of(answer)
    frames = [walked.frame for walked in LogWalk(http_node.data_dir / "wal").frames(last - 1)]
    assert (last - 2, last) in [(frame.first_offset, frame.last_offset) for frame in frames]


def test_transaction_commits_as_one_through_any_worker(session: Session) -> None:
    own = {"client_id": "{k}"}
    session.ask("kv.set", {"key": "{k}d", "value": 1})
    assert session.ask("transaction.multi", own) == {
        "success": True, "message": "Transaction started",
    }  # fmt: skip
    queued = {"success": True, "queued": True}
    assert session.ask("kv.set", {"key": "{k}a", "value": 5, **own}) == queued
    assert session.ask("kv.incr", {"key": "{k}a", "amount": 2, **own}) == queued
    assert session.ask("kv.decr", {"key": "{k}a", **own}) == queued
    assert session.ask("kv.del", {"key": "{k}d", **own}) == queued
    assert session.ask("kv.mget", {"keys": ["{k}a", "{k}d"]}) == {"values": [None, 1]}
    assert (
        session.fail("transaction.multi", own) == "Invalid request: Transaction already in progress"
    )
    done = session.ask("transaction.exec", own)
    assert done == {
        "success": True, "results": [{"ok": True}, {"value": 7}, {"value": 6}, {"deleted": 1}],
    }  # fmt: skip
    assert session.ask("kv.mget", {"keys": ["{k}a", "{k}d"]}) == {"values": [6, None]}


def test_transaction_that_fails_changes_nothing(session: Session) -> None:
    own = {"client_id": "{k}"}
    session.ask("transaction.multi", own)
    session.ask("kv.set", {"key": "{k}a", "value": "text", **own})
    session.ask("kv.incr", {"key": "{k}a", **own})
    assert session.fail("transaction.exec", own).startswith("Invalid value: command 2 of the")
    assert session.ask("kv.exists", {"key": "{k}a"}) == {"exists": False}


@pytest.mark.parametrize("path", ["command", "rest", "raw", "came and went"])
def test_watched_key_changed_by_any_path_aborts(session: Session, path: str) -> None:
    own, key = {"client_id": "{k}"}, session.key
    assert session.ask("transaction.watch", {"keys": ["{k}"], **own})["message"] == "Keys watched"
    session.ask("transaction.multi", own)
    session.ask("kv.set", {"key": "{k}x", "value": 1, **own})
    if path == "command":
        session.ask("kv.set", {"key": "{k}", "value": 1})
    elif path == "raw":
        session.client.send("PUT", f"/raw/{key}", b"1")
    else:
        session.client.put(key, 1)
    if path == "came and went":
        session.ask("kv.del", {"key": "{k}"})
    assert session.ask("transaction.exec", own) == {
        "aborted": True, "message": "Transaction aborted: watched keys changed",
    }  # fmt: skip
    assert session.ask("kv.exists", {"key": "{k}x"}) == {"exists": False}


def test_unwatch_and_discard_forget(session: Session) -> None:
    own = {"client_id": "{k}"}
    session.ask("transaction.watch", {"keys": ["{k}"], **own})
    session.client.put(session.key, 1)
    assert session.ask("transaction.unwatch", own)["message"] == "Keys unwatched"
    session.ask("transaction.multi", own)
    session.ask("kv.set", {"key": "{k}", "value": 2, **own})
    assert session.ask("transaction.discard", own)["message"] == "Transaction discarded"
    assert session.ask("kv.get", {"key": "{k}"}) == "1"


@pytest.mark.parametrize("command", ["kv.set", "kv.del", "kv.incr", "kv.decr"])
def test_command_of_no_open_transaction_is_lost_and_changes_nothing(
    session: Session, command: str
) -> None:
    session.ask("kv.set", {"key": "{k}", "value": 7})
    own: dict[str, object] = {"key": "{k}", "client_id": "{k}"}
    answer = session.send(command, own | {"value": 1} if command == "kv.set" else own)
    assert error_of(answer) == (409, "transaction_lost", True)
    assert answer.json()["success"] is False
    assert session.ask("kv.get", {"key": "{k}"}) == "7"


def test_command_without_client_id_is_never_queued(session: Session) -> None:
    session.ask("transaction.multi", {})
    assert session.ask("kv.set", {"key": "{k}", "value": 1}) == {"success": True}
    assert session.ask("transaction.exec", {}) == {"success": True, "results": []}


def test_counter_raised_by_watching_clients_at_once_loses_nothing(session: Session) -> None:
    session.ask("kv.set", {"key": "{k}", "value": 0})

    def raise_ten_times(number: int) -> int:
        own = {"client_id": f"{{k}}{number}"}
        aborted = 0
        for _ in range(10):
            while True:
                session.ask("transaction.watch", {"keys": ["{k}"], **own})
                value = int(session.ask("kv.get", {"key": "{k}"}))
                session.ask("transaction.multi", own)
                session.ask("kv.set", {"key": "{k}", "value": value + 1, **own})
                if "results" in session.ask("transaction.exec", own):
                    break
                aborted += 1
        return aborted

    with ThreadPoolExecutor(4) as pool:
        aborted = list(pool.map(raise_ten_times, range(4)))
    assert session.ask("kv.get", {"key": "{k}"}) == "40", aborted
