"""`/kv/…` on a whole node."""

import time

import pytest

from tests.integration.http_support import Client, error_of, offset_of, other, position_of
from tests.support import eventually


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_set_and_get_value_read_back_as_its_text(client: Client, key: str) -> None:
    answer = client.post("/kv/set", {"key": key, "value": "Alice"})
    version = answer.headers["x-synap-position"]
    told = {"success": True, "key": key, "written": True, "version": version}
    assert answer.json() == told
    assert client.read(key) == "Alice"


def test_set_number_beyond_64_bits_reads_back_as_written(client: Client, key: str) -> None:
    body = b'{"key": "%s", "value": 12345678901234567890123.10}' % key.encode()
    assert client.post("/kv/set", body).status == 200
    assert client.read(key) == "12345678901234567890123.10"


def test_set_object_reads_back_as_compact_json(client: Client, key: str) -> None:
    client.put(key, {"a": [1, None]})
    assert client.read(key) == '{"a":[1,null]}'


def test_get_missing_key_is_404_with_the_offset(client: Client, key: str) -> None:
    before = client.put(key, "x")
    answer = client.get("/kv/get/none-such")
    assert error_of(answer) == (404, "key_not_found", False)
    assert answer.json()["error"] == "Key not found: none-such"
    assert offset_of(answer) >= before


def test_get_type_bytes_gives_integers(client: Client, key: str) -> None:
    client.put(key, "Aü")
    assert client.get(f"/kv/get/{key}?type=bytes").json() == [65, 0xC3, 0xBC]
    assert client.get(f"/kv/get/{key}?type=string").json() == "Aü"
    assert error_of(client.get(f"/kv/get/{key}?type=hex"))[0] == 400


def test_get_etag_is_the_version_and_gives_304(client: Client, key: str) -> None:
    client.put(key, "x")
    answer = client.get(f"/kv/get/{key}")
    etag = answer.headers["etag"]
    assert etag == f'"{position_of(answer)}"'
    again = client.get(f"/kv/get/{key}", {"If-None-Match": etag})
    assert (again.status, again.body) == (304, b"")
    client.put(key, "y")
    assert client.get(f"/kv/get/{key}", {"If-None-Match": etag}).json() == "y"


def test_set_ttl_zero_writes_a_key_that_is_gone(client: Client, key: str) -> None:
    client.put(key, "old")
    client.put(key, "x", ttl=0)
    assert client.read(key) is None


def test_set_ttl_is_read_in_whole_seconds_rounded_down(client: Client, key: str) -> None:
    client.put(key, "x", expiry={"type": "milliseconds", "value": 3_600_999})
    left = client.get(f"/kv/{key}/ttl").json()["ttl"]
    # On a busy machine a few seconds have passed; on a quiet one perhaps not a millisecond.
    assert 3540 < left <= 3600
    assert client.get("/kv/none-such/ttl").status == 404


@pytest.mark.parametrize(
    ("kind", "unit_ms"),
    [("seconds", 1000), ("milliseconds", 1), ("unix_seconds", 1000), ("unix_milliseconds", 1)],
)
def test_set_expiry_wins_over_ttl(client: Client, key: str, kind: str, unit_ms: int) -> None:
    start_ms = _now_ms() if kind.startswith("unix") else 0
    value = (start_ms + 500_000) // unit_ms
    client.put(key, "x", ttl=5, expiry={"type": kind, "value": value})
    assert 400 < client.get(f"/kv/{key}/ttl").json()["ttl"] <= 500


def test_key_at_its_expiry_is_gone_without_another_request(client: Client, key: str) -> None:
    client.put(key, "x", expiry={"type": "milliseconds", "value": 150})
    assert client.read(key) == "x"
    eventually(lambda: client.read(key) is None)
    assert client.get(f"/key/{key}/exists").json()["exists"] is False


def test_set_condition_that_fails_writes_nothing(client: Client, key: str) -> None:
    assert client.post("/kv/set", {"key": key, "value": 1, "xx": True}).json()["written"] is False
    assert client.post("/kv/set", {"key": key, "value": 1, "nx": True}).json()["written"] is True
    assert client.post("/kv/set", {"key": key, "value": 2, "nx": True}).json()["written"] is False
    assert client.read(key) == "1"


@pytest.mark.parametrize(
    "given", [1, -1, "1", "0", "", '"1-9f2c11aa"', "01-9f2c11aa", "1-9F2C11AA"]
)
def test_set_if_version_that_is_no_position_is_422_that_shows_one(
    client: Client, key: str, given: object
) -> None:
    answer = client.post("/kv/set", {"key": key, "value": 1, "if_version": given})
    assert error_of(answer) == (422, "invalid_field", False)
    assert '"1042-9f2c11aa"' in answer.json()["error"]
    payload = {"key": key, "value": 1, "if_version": given}
    named = client.post("/api/v1/command", {"command": "kv.set", "payload": payload}).json()
    assert '"1042-9f2c11aa"' in named["error"]


def test_set_if_version_writes_only_over_that_version(client: Client, key: str) -> None:
    def put(value: int, version: str | int) -> bool:
        body = {"key": key, "value": value, "if_version": version}
        return bool(client.post("/kv/set", body).json()["written"])

    assert put(1, 0)
    version = client.get(f"/kv/get/{key}").headers["etag"].strip('"')
    offset, tag = version.split("-")
    assert not put(2, f"{int(offset) + 1}-{tag}")
    assert not put(2, f"{offset}-{other(tag)}")
    assert not put(2, 0)
    assert put(3, version)
    assert client.read(key) == "3"


def test_set_get_and_keepttl_give_old_value_and_keep_the_deadline(client: Client, key: str) -> None:
    client.put(key, "old", ttl=1000)
    answer = client.post("/kv/set", {"key": key, "value": "n", "get": True, "keepttl": True})
    assert answer.json()["old_value"] == "old"
    assert client.get(f"/kv/{key}/ttl").json()["ttl"] > 900
    fresh = client.post("/kv/set", {"key": key + "2", "value": "n", "get": True})
    assert fresh.json()["old_value"] is None


def test_delete_says_whether_there_was_a_key(client: Client, key: str) -> None:
    client.put(key, 1)
    path = f"/kv/del/{key}"
    assert client.send("DELETE", path).json() == {"deleted": True, "key": key}
    assert client.send("DELETE", path).json() == {"deleted": False, "key": key}


def test_mset_takes_pairs_in_both_forms_and_mget_reads_them(client: Client, key: str) -> None:
    names = [f"{key}:{part}" for part in "abc"]
    pairs = [[names[0], "x"], {"key": names[1], "value": {"n": 1}}]
    answer = client.post("/kv/mset", {"pairs": pairs})
    assert answer.json() == {"success": True}
    values = client.post("/kv/mget", {"keys": names}).json()
    assert values == {"values": ["x", '{"n":1}', None]}


def test_mget_of_many_keys_reads_them_all(client: Client, key: str) -> None:
    pairs = [[f"{key}:{number}", str(number)] for number in range(1200)]
    client.post("/kv/mset", {"pairs": pairs})
    values = client.post("/kv/mget", {"keys": [name for name, _ in pairs]}).json()["values"]
    assert values == [value for _, value in pairs]


def test_mset_with_one_bad_pair_writes_nothing(client: Client, key: str) -> None:
    answer = client.post("/kv/mset", {"pairs": [[key, 1], ["", 2]]})
    assert error_of(answer)[:2] == (400, "key_invalid")
    assert client.read(key) is None


def test_msetnx_writes_all_or_nothing(client: Client, key: str) -> None:
    first, second = key + ":1", key + ":2"
    assert client.post("/kv/msetnx", {"pairs": [[first, 1]]}).json()["written"] is True
    both = {"pairs": [[first, 2], [second, 2]]}
    assert client.post("/kv/msetnx", both).json()["written"] is False
    assert (client.read(first), client.read(second)) == ("1", None)


def test_mdel_counts_the_keys_that_existed(client: Client, key: str) -> None:
    client.put(key, 1)
    answer = client.post("/kv/mdel", {"keys": [key, key + ":none", key]})
    assert answer.json() == {"deleted": 1}


def test_incr_and_decr_add_and_keep_the_deadline(client: Client, key: str) -> None:
    assert client.post("/kv/incr", {"key": key}).json()["value"] == 1
    client.post(f"/kv/{key}/expire", {"ttl": 1000})
    assert client.post("/kv/incr", {"key": key, "amount": 41}).json()["value"] == 42
    assert client.post("/kv/decr", {"key": key, "amount": 50}).json()["value"] == -8
    assert client.get(f"/kv/{key}/ttl").json()["ttl"] > 900


@pytest.mark.parametrize("amount", [2**63, -(2**63) - 1, 10**30])
def test_incr_by_more_than_64_bits_is_400(client: Client, key: str, amount: int) -> None:
    answer = client.post("/kv/incr", {"key": key, "amount": amount})
    assert error_of(answer) == (400, "invalid_value", False)


def test_incr_of_text_or_beyond_64_bits_is_400_and_changes_nothing(
    client: Client, key: str
) -> None:
    client.put(key, "abc")
    assert error_of(client.post("/kv/incr", {"key": key}))[:2] == (400, "invalid_value")
    client.put(key, 2**63 - 1)
    assert error_of(client.post("/kv/incr", {"key": key}))[:2] == (400, "invalid_value")
    assert client.read(key) == str(2**63 - 1)


def test_incrbyfloat_answers_the_number_that_it_stored(client: Client, key: str) -> None:
    client.put(key, "10.50", ttl=1000)
    answer = client.post("/kv/incrbyfloat", {"key": key, "amount": 0.1})
    assert answer.body.startswith(b'{"value":10.6,')
    assert client.read(key) == "10.6"
    assert client.get(f"/kv/{key}/ttl").json()["ttl"] > 900


@pytest.mark.parametrize("amount", [b"1e400", b"1" + b"0" * 400, b"NaN", b'"nan"', b"null"])
def test_incrbyfloat_by_no_finite_number_is_refused(
    client: Client, key: str, amount: bytes
) -> None:
    body = b'{"key":"' + key.encode() + b'","amount":' + amount + b"}"
    assert client.post("/kv/incrbyfloat", body).status in (400, 422)
    assert client.get(f"/kv/get/{key}").status == 404


def test_append_setrange_strlen_count_bytes(client: Client, key: str) -> None:
    assert client.get(f"/kv/{key}/strlen").json() == {"length": 0}
    assert client.post(f"/kv/{key}/append", {"value": "ü"}).json()["length"] == 2
    assert client.post(f"/kv/{key}/append", {"value": 42}).json()["length"] == 4
    assert client.get(f"/kv/{key}/strlen").json() == {"length": 4}
    assert client.post(f"/kv/{key}/setrange", {"offset": 6, "value": "x"}).json()["length"] == 7
    assert client.read(key) == "ü42\0\0x"


@pytest.mark.parametrize(
    ("start", "end", "part"), [(0, 1, "ab"), (-2, -1, "de"), (1, 100, "bcde"), (4, 2, "")]
)
def test_getrange_is_inclusive_and_counts_from_both_ends(
    client: Client, key: str, start: int, end: int, part: str
) -> None:
    client.put(key, "abcde")
    assert client.get(f"/kv/{key}/getrange?start={start}&end={end}").json() == part


def test_getrange_without_both_ends_is_400_and_of_missing_key_404(client: Client, key: str) -> None:
    assert error_of(client.get(f"/kv/{key}/getrange?start=0"))[:2] == (400, "invalid_request")
    assert error_of(client.get(f"/kv/{key}/getrange?start=0&end=x"))[0] == 400
    assert error_of(client.get(f"/kv/{key}/getrange?start=0&end=1"))[0] == 404


def test_getrange_that_cuts_a_character_reads_as_binary(client: Client, key: str) -> None:
    client.put(key, "ü")
    answer = client.get(f"/kv/{key}/getrange?start=0&end=0")
    assert answer.json() == "<binary data: 1 bytes>"


def test_getset_gives_the_old_value_and_clears_the_deadline(client: Client, key: str) -> None:
    assert client.post(f"/kv/{key}/getset", {"value": 1}).json() is None
    client.post(f"/kv/{key}/expire", {"ttl": 1000})
    assert client.post(f"/kv/{key}/getset", {"value": 2}).json() == "1"
    assert client.get(f"/kv/{key}/ttl").json() == {"ttl": None}


def test_expire_and_persist_say_whether_they_did_something(client: Client, key: str) -> None:
    assert client.post(f"/kv/{key}/expire", {"ttl": 10}).json()["result"] is False
    client.put(key, 1)
    assert client.post(f"/kv/{key}/expire", {"ttl": 10}).json()["result"] is True
    assert client.send("POST", f"/kv/{key}/persist").json()["result"] is True
    assert client.send("POST", f"/kv/{key}/persist").json()["result"] is False


def test_scan_pages_are_in_order_whole_and_end(client: Client, key: str) -> None:
    names = [f"{key}:{number:03}" for number in range(25)]
    client.post("/kv/mset", {"pairs": [[name, 1] for name in reversed(names)]})
    seen: list[str] = []
    cursor = ""
    while True:
        page = client.get(f"/kv/scan?prefix={key}:&limit=10&cursor={cursor}").json()
        assert page["count"] == len(page["keys"]) <= 10
        seen += page["keys"]
        cursor = page["cursor"]
        assert page["has_more"] is (cursor is not None)
        if cursor is None:
            break
    assert seen == names


def test_scan_by_delimiter_gives_folders_page_by_page(client: Client, key: str) -> None:
    for name in ("a", "b:1", "b:2:x", "c:", "d"):
        assert client.post("/kv/set", {"key": f"{key}:{name}", "value": "1"}).status == 200
    keys: list[str] = []
    folders: list[str] = []
    cursor = ""
    while cursor is not None:
        query = f"prefix={key}:&delimiter=:&limit=1&cursor={cursor}"
        page = client.get(f"/kv/scan?{query}").json()
        assert page["count"] + len(page["folders"]) <= 1
        keys, folders, cursor = keys + page["keys"], folders + page["folders"], page["cursor"]
    assert keys == [f"{key}:a", f"{key}:d"]
    assert folders == [f"{key}:b:", f"{key}:c:"]


def test_scan_with_pattern_and_expired_keys_gives_what_is_there(client: Client, key: str) -> None:
    for suffix in ("a1", "a2", "b1"):
        client.put(f"{key}:{suffix}", 1)
    client.put(f"{key}:a3", 1, ttl=0)
    page = client.get(f"/kv/scan?prefix={key}:&pattern=*:a%3F").json()
    assert page["keys"] == [f"{key}:a1", f"{key}:a2"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=x",
        "cursor=!",
        "cursor=abc%FF",
        "prefix=" + "p" * 504,
        "limit=1&limit=2",
        "delimiter=",
        "delimiter=:&pattern=a*",
        "delimiter=" + "d" * 504,
    ],
)
def test_scan_with_bad_parameter_is_400(client: Client, query: str) -> None:
    assert error_of(client.get(f"/kv/scan?{query}"))[:2] == (400, "invalid_request")


def test_stats_count_the_operations_of_all_workers(client: Client, key: str) -> None:
    before = client.get("/kv/stats").json()
    for _ in range(8):
        client.put(key, "x")
        client.read(key)
        client.read(key + ":none")
    client.send("DELETE", f"/kv/del/{key}")
    after = client.get("/kv/stats").json()
    grown = {
        name: after["operations"][name] - before["operations"][name] for name in after["operations"]
    }
    assert grown == {"gets": 16, "sets": 8, "dels": 1, "hits": 8, "misses": 8}
    assert after["total_keys"] == before["total_keys"]
    assert after["total_memory_bytes"] > 0
    assert 0 < after["hit_rate"] < 1


def test_names_and_deadlines_count_as_writes(client: Client, key: str) -> None:
    client.put(key, "x")
    before = client.get("/kv/stats").json()["operations"]
    client.post(f"/kv/{key}/expire", {"ttl": 100})
    client.post(f"/kv/{key}/persist", {})
    client.post(f"/kv/{key}/persist", {})
    client.post(f"/key/{key}/copy", {"destination": key + ":copy"})
    client.post(f"/key/{key}/rename", {"destination": key + ":new"})
    after = client.get("/kv/stats").json()["operations"]
    assert (after["sets"] - before["sets"], after["dels"] - before["dels"]) == (4, 1)
