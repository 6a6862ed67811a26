"""`/key/…` on a whole node."""

import pytest

from tests.integration.http_support import Client, error_of


def test_type_and_exists_tell_present_from_missing(client: Client, key: str) -> None:
    assert client.get(f"/key/{key}/type").json() == {"key": key, "type": "none"}
    assert client.get(f"/key/{key}/exists").json() == {"key": key, "exists": False}
    client.put(key, 1)
    assert client.get(f"/key/{key}/type").json() == {"key": key, "type": "string"}
    assert client.get(f"/key/{key}/exists").json() == {"key": key, "exists": True}


def test_rename_moves_the_value_with_its_deadline(client: Client, key: str) -> None:
    new = key + ":new"
    client.put(key, "x", ttl=1000)
    answer = client.post(f"/key/{key}/rename", {"destination": new})
    assert answer.json() == {"success": True, "source": key, "destination": new}
    assert (client.read(key), client.read(new)) == (None, "x")
    assert client.get(f"/kv/{new}/ttl").json()["ttl"] > 900


@pytest.mark.parametrize("move", ["rename", "renamenx", "copy"])
def test_move_of_missing_key_is_404(client: Client, key: str, move: str) -> None:
    answer = client.post(f"/key/{key}/{move}", {"destination": "d"})
    assert error_of(answer) == (404, "key_not_found", False)


@pytest.mark.parametrize("move", ["renamenx", "copy"])
def test_move_onto_existing_key_is_400_and_changes_nothing(
    client: Client, key: str, move: str
) -> None:
    taken = key + ":taken"
    client.put(key, "x")
    client.put(taken, "y")
    answer = client.post(f"/key/{key}/{move}", {"destination": taken})
    assert error_of(answer) == (400, "key_exists", False)
    assert (client.read(key), client.read(taken)) == ("x", "y")


def test_copy_with_replace_overwrites(client: Client, key: str) -> None:
    taken = key + ":taken"
    client.put(key, "x")
    client.put(taken, "y")
    answer = client.post(f"/key/{key}/copy", {"destination": taken, "replace": True})
    assert answer.json()["success"] is True
    assert (client.read(key), client.read(taken)) == ("x", "x")


def test_rename_without_destination_is_422_that_names_it(client: Client, key: str) -> None:
    answer = client.post(f"/key/{key}/rename", {})
    assert error_of(answer) == (422, "invalid_field", False)
    assert "'destination'" in answer.json()["error"]


def test_randomkey_is_some_key_that_exists(client: Client, key: str) -> None:
    client.put(key, 1)
    found = client.get("/key/randomkey").json()["key"]
    assert client.read(found) is not None
