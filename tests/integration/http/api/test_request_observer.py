"""Request ids, the slow log and the access log."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.integration.http_support import Client, error_of, make_config, open_board, serving

# Not reached: the read waits for it as long as the shared node lets it, which is over the 100 ms
# from which a request is slow.
FAR_OFFSET = {"X-Synap-Min-Offset": str(2**60)}


def id_of(client: Client, path: str, **headers: str) -> str:
    return client.get(path, headers).headers["x-request-id"]


@pytest.mark.parametrize("path", ["/kv/get/x", "/health", "/no/such/path", "/kv/scan?limit=x"])
def test_every_answer_has_a_request_id_of_its_own(client: Client, path: str) -> None:
    ids = {id_of(client, path) for _ in range(5)}
    assert len(ids) == 5
    assert all(10 < len(each) < 40 and each.isalnum() for each in ids)


@pytest.mark.parametrize("given", ["a", "4711-ab.c_d:e/f+g=@", "x" * 128])
def test_request_id_of_the_client_comes_back(client: Client, given: str) -> None:
    assert id_of(client, "/kv/get/x", **{"X-Request-Id": given}) == given


@pytest.mark.parametrize("given", ["", "a b", 'a"b', "a\tb", "ä", "x" * 129])
def test_request_id_that_is_not_fit_for_one_is_replaced(client: Client, given: str) -> None:
    assert id_of(client, "/kv/get/x", **{"X-Request-Id": given}).isalnum()


def test_slow_request_is_in_the_slow_log_of_every_worker(client: Client, key: str) -> None:
    answer = client.get(f"/kv/get/{key}?type=bytes", FAR_OFFSET)
    assert error_of(answer) == (503, "not_caught_up", True)
    for _ in range(4):
        log = client.get("/slowlog").json()
        entry = next(each for each in log["entries"] if key in each["args"][0])
        assert entry["command"] == "GET /kv/get/{key}"
        assert entry["args"] == [f"/kv/get/{key}?type=bytes"]
        assert entry["duration_us"] >= 300_000
        assert entry["request_id"] == answer.headers["x-request-id"]
        assert log["total"] >= len(log["entries"])


def test_slow_log_is_cut_to_the_count_and_emptied_by_delete(client: Client, key: str) -> None:
    for _ in range(2):
        client.get(f"/kv/get/{key}", FAR_OFFSET)
    assert len(client.get("/slowlog?count=1").json()["entries"]) == 1
    ids = [entry["id"] for entry in client.get("/slowlog?count=-1").json()["entries"]]
    assert len(ids) == len(set(ids)) >= 2
    assert client.send("DELETE", "/slowlog").json() == {"success": True}
    left = client.get("/slowlog").json()["entries"]
    assert not any(key in entry["args"][0] for entry in left)


def test_slow_request_is_logged_by_its_route_and_not_its_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(tmp_path, logging__slow_ms=1)
    with open_board(config), serving(config) as client:
        # Reads the files of all processes, in a thread: never under a millisecond.
        headers = {"X-Secret": "secret", "traceparent": f"00-{'1' * 32}-{'2' * 16}-00"}
        request_id = client.get("/metrics", headers).headers["x-request-id"]
    record = next(r for r in caplog.records if getattr(r, "action", "") == "slow_request")
    assert record.getMessage().startswith("GET /metrics took ")
    assert vars(record)["request_id"] == request_id
    assert (vars(record)["trace_id"], vars(record)["span_id"]) == ("1" * 32, "2" * 16)
    assert "secret" not in record.getMessage()


def test_access_log_has_a_line_for_each_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "synap.access")
    config = make_config(tmp_path, logging__access=True)
    with open_board(config), serving(config) as client:
        answer = client.get("/replica?max_lag_ms=1")
        client.get("/nothing")
    gathered = [vars(r)["requests"] for r in caplog.records if r.name == "synap.access"]
    first, second = (line for lines in gathered for line in lines)
    assert (first.method, first.target, first.status) == ("GET", "/replica?max_lag_ms=1", 503)
    assert (second.target, second.status) == ("/nothing", 404)
    assert first.client == "127.0.0.1"
    assert first.request_id == answer.headers["x-request-id"]
    assert first.duration_us > 0


def test_access_log_is_off_by_default(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "synap.access")
    config = make_config(tmp_path)
    with open_board(config), serving(config) as client:
        client.get("/liveness")
    assert [record for record in caplog.records if record.name == "synap.access"] == []
