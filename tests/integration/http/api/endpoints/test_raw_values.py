"""`/raw/{key}`: bytes in, bytes out, and conditions on the version."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from tests.integration.http_support import Client, error_of, offset_of, other, position_of

ALL_BYTES = bytes(range(256))


@pytest.fixture
def path(key: str) -> str:
    return f"/raw/{quote(key, safe='')}"


@pytest.mark.parametrize("value", [ALL_BYTES, b"", b'{"a": 1}', b"\xff" * 99_999], ids=len)
def test_put_bytes_are_what_get_gives(client: Client, path: str, value: bytes) -> None:
    put = client.send("PUT", path, value, {"Content-Type": "image/png"})
    assert put.status == 200
    version = put.json()["version"]
    assert position_of(put) == version
    got = client.get(path)
    assert (got.status, got.body, got.headers["etag"]) == (200, value, f'"{version}"')
    assert got.headers["content-type"] == "application/octet-stream"
    assert offset_of(got) >= offset_of(put)


def test_put_key_with_a_slash_is_the_key_of_every_entry_point(client: Client, key: str) -> None:
    name = f"{key}/ü"
    put = client.send("PUT", f"/raw/{quote(name, safe='')}", b"text")
    assert put.json()["key"] == name
    assert client.read(name) == "text"


def test_head_gives_the_headers_of_get(client: Client, path: str) -> None:
    client.send("PUT", path, ALL_BYTES)
    head = client.send("HEAD", path)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "256")
    assert head.headers["etag"] == client.get(path).headers["etag"]


def test_missing_key_is_404_and_its_delete_deletes_nothing(client: Client, path: str) -> None:
    assert error_of(client.get(path)) == (404, "key_not_found", False)
    assert client.send("DELETE", path).json()["deleted"] is False


def test_delete_removes_the_key(client: Client, path: str, key: str) -> None:
    client.send("PUT", path, b"x")
    assert client.send("DELETE", path).json() == {"deleted": True, "key": key}
    assert client.get(path).status == 404


def test_put_ttl_sets_a_deadline_and_without_one_it_lives_for_ever(
    client: Client, path: str
) -> None:
    ttl_path = path.replace("/raw/", "/kv/") + "/ttl"
    client.send("PUT", f"{path}?ttl=60", b"x")
    assert client.get(ttl_path).json()["ttl"] in (59, 60)
    client.send("PUT", path, b"x")
    assert client.get(ttl_path).json() == {"ttl": None}
    client.send("PUT", f"{path}?ttl=0", b"x")
    assert client.get(path).status == 404


@pytest.mark.parametrize(("ttl", "status"), [("x", 400), ("-1", 422), ("1" * 30, 422)])
def test_put_bad_ttl_is_refused_by_name(client: Client, path: str, ttl: str, status: int) -> None:
    answer = client.send("PUT", f"{path}?ttl={ttl}", b"x")
    assert answer.status == status
    assert "'ttl'" in answer.json()["error"]


# {v} stands for the tag of the key's version, {o} for that of the same offset in another reign, {n}
# for the offset alone.
@pytest.mark.parametrize(
    ("exists", "headers", "status"),
    [
        (True, {"If-Match": "{v}"}, 200),
        (True, {"If-Match": "{o}"}, 412),
        (True, {"If-Match": "{n}"}, 412),
        (True, {"If-Match": "W/{v}"}, 412),
        (True, {"If-Match": "{o}, {v}"}, 200),
        (True, {"If-Match": "*"}, 200),
        (False, {"If-Match": "*"}, 412),
        (False, {"If-Match": "{o}"}, 412),
        (False, {"If-None-Match": "*"}, 200),
        (True, {"If-None-Match": "*"}, 412),
        (True, {"If-None-Match": "{v}"}, 412),
        (True, {"If-None-Match": "W/{v}"}, 412),
        (True, {"If-None-Match": "{o}"}, 200),
        (True, {"If-None-Match": "{n}"}, 200),
        (True, {"If-Match": "{v}", "If-None-Match": "{v}"}, 412),
        (True, {"If-Match": "{v}", "If-None-Match": "{o}"}, 200),
        (True, {"If-Match": "7"}, 400),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_condition_decides_on_a_write(
    client: Client, path: str, method: str, exists: bool, headers: dict[str, str], status: int
) -> None:
    put = client.send("PUT", path, b"old")
    version = put.json()["version"]
    if not exists:
        client.send("DELETE", path)
    sent = {
        name: text.format(v=f'"{version}"', o=f'"{other(version)}"', n=f'"{offset_of(put)}"')
        for name, text in headers.items()
    }
    answer = client.send(method, path, b"new" if method == "PUT" else None, sent)
    assert answer.status == status, answer.body
    if status == 412:
        assert error_of(answer) == (412, "precondition_failed", False)
    left = client.get(path)
    expected = b"old" if exists else None
    if status == 200:
        expected = b"new" if method == "PUT" else None
    assert (left.body if left.status == 200 else None) == expected


@pytest.mark.parametrize(
    ("tags", "status"), [("{v}", 304), ("W/{v}", 304), ('"0", {v}', 304), ("*", 304), ('"0"', 200)]
)
@pytest.mark.parametrize("prefix", ["/raw/", "/kv/get/"])
def test_get_of_a_known_version_is_304_without_a_body(
    client: Client, path: str, prefix: str, tags: str, status: int
) -> None:
    etag = client.send("PUT", path, b"x").headers["etag"]
    sent = {"If-None-Match": tags.format(v=etag)}
    answer = client.get(path.replace("/raw/", prefix), sent)
    assert (answer.status, answer.headers["etag"]) == (status, etag)
    assert (answer.body == b"") == (status == 304)


def test_one_of_many_conditional_writers_of_a_version_wins(client: Client, path: str) -> None:
    etag = client.send("PUT", path, b"0").headers["etag"]

    def write(number: int) -> int:
        return client.send("PUT", path, b"%d" % number, {"If-Match": f'{etag}, "0"'}).status

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(write, range(8)))
    assert statuses == [200] + [412] * 7


def test_value_over_the_limit_is_413(client: Client, path: str) -> None:
    answer = client.send("PUT", path, bytes(100_001))
    assert error_of(answer) == (413, "value_too_large", False)
    answer = client.send("PUT", path, bytes(1024 * 1024 + 1))
    assert answer.status == 413
