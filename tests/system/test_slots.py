"""Two clusters behind the shipped HAProxy: whose keys are where, and a slot that moves."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest

from synap.slots import slot_of
from tests.shards import HAPROXY, Shards, Writes, shards, tag_in, url_of
from tests.support import eventually
from workers.cli.slots import HttpCalls

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")

KEYS = ["plain", "{tag}x", "a{tag}b{c}", "{}x", "a{b", "ü{ö}", "a/b", "a%2Fb", "x\ny{t}z", "a+b ?#"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory):
    with shards(tmp_path_factory.mktemp("shards")) as made:
        yield made


class Killed(Exception):
    """The mover is gone."""


class DyingCalls(HttpCalls):
    """Calls of a mover that is killed at one that changes something, before it or after it."""

    def __init__(self, changes: int, *, is_done: bool) -> None:
        self._left = changes
        self._is_done = is_done

    def post(self, *args):
        self._left -= 1
        if self._left < 0 and not self._is_done:
            raise Killed
        answer = super().post(*args)
        if self._left < 0:
            raise Killed
        return answer


def body_of(key: str, **more: object) -> bytes:
    return json.dumps({"key": key, **more}, ensure_ascii=False).encode()


def test_proxy_and_nodes_agree_whose_a_key_is(both: Shards):
    """A node that does not have a key refuses it, so an answer of 200 says that all agree."""
    for key in KEYS:
        path = quote(key, safe="")
        for value in ("short", "v" * 65_536):
            assert both.proxy.request("POST", "/kv/set", body_of(key, value=value)).status == 200
        for get in (f"/kv/get/{path}", f"/raw/{path}", f"/key/{path}/type"):
            assert both.proxy.request("GET", get).status == 200, key
        named = {"X_Synap_Key": path}
        command = json.dumps({"command": "kv.get", "payload": {"key": key}}).encode()
        told = both.proxy.request("POST", "/api/v1/command", command, **named).json()
        assert told["payload"] == "v" * 65_536
        owner = "a" if slot_of(key.encode()) < 512 else "b"
        assert key in both.keys(owner)
    assert both.proxy.request("GET", "/kv/scan").status == 400
    assert both.proxy.request("GET", "/kv/scan", X_Synap_Cluster="b").status == 200


def test_node_refuses_keys_that_are_not_its_own_nor_what_was_named(both: Shards):
    a, b = both.nodes["a"], both.nodes["b"]
    away = tag_in(512, 1023)
    for answer in (
        a.request("GET", f"/kv/get/{away}"),
        a.request("POST", "/kv/set", {"key": away, "value": 1}),
        a.request("POST", "/kv/mget", {"keys": [away]}),
    ):
        told = answer.json()
        assert (answer.status, told["reason"], told["url"]) == (421, "slot_elsewhere", url_of(b))
        assert answer.headers["x-synap-cluster-url"] == url_of(b)
    here = tag_in(0, 511)
    crossed = a.request("POST", "/kv/mget", {"keys": [here, f"{here}2"]})
    assert (crossed.status, crossed.json()["reason"]) == (400, "cross_slot")
    body = {"key": here, "value": 1}
    wrong = a.request("POST", "/kv/set", body, {"X-Synap-Key": "another"})
    assert (wrong.status, wrong.json()["reason"]) == (400, "key_mismatch")
    assert a.request("POST", "/kv/set", body, {"X-Synap-Key": f"{{{here}}}x"}).status == 200


def test_slot_moves_under_load_with_nothing_lost_and_writes_away_for_a_moment(both: Shards):
    tag = tag_in(0, 511, 3)
    with Writes(both.proxy, tag, time.monotonic) as writes:
        while len(writes.acknowledged) < 50:
            time.sleep(0.01)
        away_seconds = both.move(slot_of(tag.encode()), "a", "b").run()
        seen = len(writes.acknowledged)
        while len(writes.acknowledged) < seen + 20:
            time.sleep(0.01)
    assert writes.acknowledged.items() <= both.keys("b").items()
    assert not writes.acknowledged.keys() & both.keys("a").keys()
    assert away_seconds < 2


def test_request_that_is_sent_again_after_its_slot_has_moved_is_done_once(both: Shards):
    tag = tag_in(0, 511, 27)
    incr = json.dumps({"key": f"{{{tag}}}n"}).encode()
    sets = body_of(f"{{{tag}}}s", value="v")

    def send(number: int):
        key = {"Idempotency-Key": f"n{number}"}
        return both.proxy.request("POST", "/kv/incr", incr, **key)

    first = [send(number).json()["value"] for number in range(3)]
    both.proxy.request("POST", "/kv/set", sets, Idempotency_Key="s")
    both.move(slot_of(tag.encode()), "a", "b").run()
    again = [send(number) for number in range(3)]
    assert [each.json()["value"] for each in again] == first == [1, 2, 3]
    assert {each.headers["idempotent-replayed"] for each in again} == {"true"}
    assert send(3).json()["value"] == 4
    told = both.proxy.request("POST", "/kv/set", sets, Idempotency_Key="s")
    assert told.headers["idempotent-replayed"] == "true"
    stored = both.nodes["b"].request("GET", f"/raw/{quote(f'{{{tag}}}s')}")
    assert stored.headers["etag"] not in told.body.decode()


def test_mover_that_is_killed_anywhere_is_gone_on_with(both: Shards):
    tag = tag_in(0, 511, 9)
    slot = slot_of(tag.encode())
    wanted = {f"{{{tag}}}{number}": f"v{number}" for number in range(20)}
    for key, value in wanted.items():
        assert both.proxy.request("POST", "/kv/set", body_of(key, value=value)).status == 200
    way = ["a", "b"]
    is_killed, calls = True, 0
    while is_killed:
        is_killed = False
        try:
            both.move(slot, *way, DyingCalls(calls // 2, is_done=bool(calls % 2))).run()
        except Killed:
            is_killed, calls = True, calls + 1
        both.move(slot, *way).run()
        way.reverse()
        assert wanted.items() <= both.keys(way[0]).items()
        assert not wanted.keys() & both.keys(way[1]).keys()
    assert calls > 12


def test_freeze_ends_in_the_log_before_the_next_write_and_gives_nothing_after(both: Shards):
    """Whatever the mover believes, a write that was answered since is not left behind."""
    tag = tag_in(0, 511, 21)
    step = {"slot": slot_of(tag.encode()), "step": "freeze", "milliseconds": 1}
    node = both.nodes["a"]
    freeze = node.request("POST", "/cluster/slots/step", step).json()["position"]
    write = {"key": f"{{{tag}}}k", "value": "v"}
    eventually(lambda: node.request("POST", "/kv/set", write).status == 200)
    give = {
        "slot": step["slot"],
        "step": "give",
        "cluster": "b",
        "url": "http://b",
        "freeze": freeze,
    }
    assert not node.request("POST", "/cluster/slots/step", give).json()["done"]
    moved = node.request("GET", "/cluster/slots").json()["moved"]
    assert step["slot"] not in [each["slot"] for each in moved]
    malformed = node.request("POST", "/cluster/slots/step", give | {"freeze": "17"})
    assert (malformed.status, malformed.json()["reason"]) == (422, "invalid_field")


def test_move_is_undone_until_the_slot_is_given_away(both: Shards):
    tag = tag_in(0, 511, 15)
    slot = slot_of(tag.encode())
    key = f"{{{tag}}}k"
    assert both.proxy.request("POST", "/kv/set", body_of(key, value="v")).status == 200
    with pytest.raises(Killed):
        both.move(slot, "a", "b", DyingCalls(2, is_done=True)).run()
    both.move(slot, "a", "b").undo()
    assert key in both.keys("a")
    assert key not in both.keys("b")
    assert both.nodes["b"].request("GET", f"/kv/get/{quote(key)}").status == 421
    assert both.proxy.request("POST", "/kv/set", body_of(key, value="w")).status == 200
