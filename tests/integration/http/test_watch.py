"""`GET /watch` on a whole node, with either class of HTTP worker."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.conftest import running_node
from tests.integration.http_support import Client, error_of, position_of
from tests.support import HOST, Node, eventually

LINES = "application/x-ndjson"
EVENTS = "text/event-stream"
TIMEOUT_SECONDS = 15.0


@pytest.fixture(scope="module", params=["synap", "uvicorn"])
def client(
    request: pytest.FixtureRequest, http_node: Node, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """Ask the shared node, and then one whose HTTP is uvicorn-worker's."""
    if request.param == "synap":
        yield Client(http_node.port)
        return
    with running_node(tmp_path_factory.mktemp("uvicorn"), request.param) as node:
        yield Client(node.port)


@contextmanager
def streaming(
    client: Client, query: str, accept: str = LINES, **headers: str
) -> Iterator[http.client.HTTPResponse]:
    """Have a stream's answer."""
    connection = http.client.HTTPConnection(HOST, client.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", f"/watch?{query}", headers={"Accept": accept, **headers})
        # It keeps the connection where that is closed after it.
        with connection.getresponse() as answer:
            assert answer.status == 200, answer.read()
            yield answer
    finally:
        connection.close()


def next_line(answer: http.client.HTTPResponse) -> dict[str, Any]:
    """Return the next event of a stream of lines."""
    while not (line := answer.readline()).strip():
        assert line, "the stream ended"
    found: dict[str, Any] = json.loads(line)
    return found


def next_event(answer: http.client.HTTPResponse) -> tuple[str, str, Any]:
    """Return name, id and data of the next Server-Sent Event."""
    fields = {"event": "", "id": "", "data": ""}
    while line := answer.readline().decode().rstrip("\n"):
        name, _, value = line.partition(": ")
        fields[name or "comment"] = value
    if not fields["event"]:
        return next_event(answer)
    return fields["event"], fields["id"], json.loads(fields["data"])


def keys_of(event: dict[str, Any]) -> list[str]:
    return [change["key"] for change in event["changes"]]


def test_lines_tell_every_change_with_its_position(client: Client, key: str) -> None:
    with streaming(client, f"prefix={key}") as answer:
        assert answer.headers["content-type"] == LINES
        begin = next_line(answer)
        assert begin["event"] == "progress"
        client.put("elsewhere", 1)
        client.put(f"{key}:1", "ü", ttl=900)
        client.send("DELETE", f"/kv/del/{key}:1")
        written, removed = next_line(answer), next_line(answer)
    (change,) = written["changes"]
    assert (change["op"], change["key"], change["value"]) == ("set", f"{key}:1", "ü")
    assert change["expires_at_ms"] > written["time_ms"]
    assert change["version"] == written["position"]
    assert removed["changes"] == [{"op": "del", "key": f"{key}:1", "cause": "client"}]


def test_events_have_their_position_as_id(client: Client, key: str) -> None:
    with streaming(client, f"key={key}", EVENTS) as answer:
        name, begin, _ = next_event(answer)
        assert (name, begin.count("-")) == ("progress", 1)
        position = position_of(client.post("/kv/set", {"key": key, "value": "x"}))
        name, id, data = next_event(answer)
    assert (name, id, keys_of(data)) == ("change", position, [key])


def test_batch_is_one_event(client: Client, key: str) -> None:
    with streaming(client, f"prefix={key}") as answer:
        next_line(answer)
        client.post("/kv/mset", {"pairs": [[f"{key}:{number}", number] for number in range(3)]})
        assert keys_of(next_line(answer)) == [f"{key}:{number}" for number in range(3)]


def test_initial_keys_come_before_the_changes(client: Client, key: str) -> None:
    client.put(f"{key}:1", 1)
    client.put(f"{key}:2", 2)
    with streaming(client, f"prefix={key}&include=initial") as answer:
        entries = [next_line(answer) for _ in range(2)]
        synced = next_line(answer)
        client.put(f"{key}:3", 3)
        change = next_line(answer)
    assert [(each["event"], each["key"]) for each in entries] == [
        ("entry", f"{key}:1"), ("entry", f"{key}:2"),
    ]  # fmt: skip
    assert all("position" not in each for each in entries)
    assert synced["event"] == "synced"
    assert keys_of(change) == [f"{key}:3"]


def test_initial_of_nothing_is_synced_at_once(client: Client) -> None:
    with streaming(client, "prefix=no-such&include=initial", EVENTS) as answer:
        assert next_event(answer)[0] == "synced"


def test_stream_goes_on_from_a_position_and_last_event_id_wins(client: Client, key: str) -> None:
    first = position_of(client.post("/kv/set", {"key": key, "value": 1}))
    second = position_of(client.post("/kv/set", {"key": key, "value": 2}))
    third = position_of(client.post("/kv/set", {"key": key, "value": 3}))
    with streaming(client, f"key={key}&from={first}") as answer:
        assert next_line(answer)["position"] == first
        assert [next_line(answer)["position"] for _ in range(2)] == [second, third]
    with streaming(
        client, f"key={key}&include=initial", EVENTS, **{"Last-Event-ID": second}
    ) as answer:
        assert [next_event(answer)[:2] for _ in range(2)] == [
            ("progress", second), ("change", third),
        ]  # fmt: skip


def test_long_poll_waits_for_an_event_and_moves_on(client: Client, key: str) -> None:
    begin = client.get("/watch?wait=0").json()
    assert begin["events"] == []
    client.put("elsewhere", 1)
    moved = client.get(f"/watch?key={key}&from={begin['next']}&wait=0").json()
    assert moved["events"] == []
    assert moved["next"] != begin["next"]
    for number in range(3):
        client.put(key, number)
    some = client.get(f"/watch?key={key}&from={begin['next']}&wait=10&limit=2").json()
    assert ([keys_of(each) for each in some["events"]], some["more"]) == ([[key], [key]], True)
    rest = client.get(f"/watch?key={key}&from={some['next']}&wait=10").json()
    assert ([each["changes"][0]["value"] for each in rest["events"]], rest["more"]) == (
        ["2"], False,
    )  # fmt: skip


def test_position_of_another_history_is_a_reset(client: Client) -> None:
    answer = client.get("/watch?from=1-01234567&wait=5")
    assert error_of(answer) == (410, "diverged", False)
    assert answer.json()["common"] is None
    with streaming(client, "from=1-01234567", EVENTS) as stream:
        content = stream.read().decode()
    # A browser comes again without it.
    assert content.startswith("event: reset\nid\n")
    with streaming(client, "from=1-01234567") as stream:
        assert next_line(stream)["reason"] == "diverged"
        assert stream.read() == b""


def test_values_are_left_out_where_they_are_long_or_not_wanted(client: Client, key: str) -> None:
    begin = client.get("/watch?wait=0").json()["next"]
    client.put(key, "x" * 65_537)
    (event,) = client.get(f"/watch?key={key}&from={begin}").json()["events"]
    assert (event["changes"][0].get("value"), event["changes"][0]["truncated"]) == (None, True)
    (event,) = client.get(f"/watch?key={key}&from={begin}&values=none").json()["events"]
    assert not {"value", "truncated"} & event["changes"][0].keys()


@pytest.mark.parametrize(
    ("query", "reason"),
    [("from=7", "invalid_request"), ("from=", "invalid_request"), ("values=all", "invalid_request"),
     ("include=all", "invalid_request"), ("include=initial", "invalid_request"),
     ("limit=0", "invalid_request"), ("wait=x", "invalid_request"), ("wait=301", "invalid_request"),
     ("prefix=" + "x" * 504, "invalid_request"), ("key=", "key_invalid"),
     ("min_replicas=1", "invalid_request"), ("prefx=a", "unknown_parameter")],
)  # fmt: skip
def test_parameters_that_make_no_sense_are_400(client: Client, query: str, reason: str) -> None:
    assert error_of(client.get(f"/watch?wait=0&{query}"))[:2] == (400, reason)


def test_head_takes_no_place(client: Client) -> None:
    answer = client.send("HEAD", "/watch", headers={"Accept": EVENTS})
    assert (answer.status, answer.headers["content-type"]) == (200, EVENTS)


def test_page_of_another_site_gets_no_stream(client: Client) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert error_of(client.get("/watch?wait=0", headers))[:2] == (403, "cross_origin")
    for headers in ({"Origin": "https://app.example"}, {"Sec-Fetch-Site": "same-origin"}):
        assert client.get("/watch?wait=0", headers).status == 200


def test_watcher_that_goes_gives_its_place_up(client: Client, key: str) -> None:
    def watchers() -> int:
        text = client.get("/metrics").body.decode()
        return int(float(text.split("\nsynap_watchers ")[1].split()[0]))

    # Those of the tests before go as theirs do.
    eventually(lambda: watchers() == 0)
    with streaming(client, f"key={key}") as answer:
        next_line(answer)
        assert watchers() == 1
    eventually(lambda: watchers() == 0)
