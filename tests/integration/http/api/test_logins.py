"""Wrong passwords from several addresses, without a pause: others log in for the first time yet."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from tests.integration.http_support import Client
from tests.support import Node, eventually

PASSWORD = "correct horse"
ROOT = {"Authorization": "Basic " + b64encode(f"root:{PASSWORD}".encode()).decode()}
JSON = {"Content-Type": "application/json"}
LOGIN_SECONDS = 15.0


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A node with two users that nobody has logged in as."""
    settings = {
        "auth.enabled": True,
        "auth.root.password": PASSWORD,
        "server.trusted_proxies": "127.0.0.0/8",
    }
    with Node(tmp_path, "logins", settings) as node:
        client = Client(node.port)
        for name in ("ann", "bob"):
            body = json.dumps({"username": name, "password": PASSWORD}).encode()
            assert client.send("POST", "/auth/users", body, ROOT | JSON).status == 200
        yield client


def log_in(client: Client, username: str, password: str, address: str) -> int:
    body = json.dumps({"username": username, "password": password}).encode()
    return client.send("POST", "/auth/login", body, {"X-Forwarded-For": address} | JSON).status


@contextmanager
def guessing(client: Client, addresses: list[str], username: str) -> Iterator[list[int]]:
    """Guess a user's password from these addresses, four at a time from each."""
    is_over = threading.Event()
    statuses: list[int] = []

    def guess(address: str, thread: int) -> None:
        for number in count():
            if is_over.is_set():
                break
            wrong = f"wrong {address} {thread} {number}"
            # A guesser may wait for longer than anybody listens, and tries again.
            with suppress(TimeoutError):
                statuses.append(log_in(client, username, wrong, address))

    threads = [
        threading.Thread(target=guess, args=(address, thread))
        for address in addresses
        for thread in range(4)
    ]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def test_first_login_is_served_while_others_guess(client: Client) -> None:
    guessers = [f"192.0.2.{number}" for number in range(1, 6)]
    with guessing(client, guessers, "ann") as statuses:
        eventually(lambda: 429 in statuses and 401 in statuses)
        for username, address in (("ann", "198.51.100.1"), ("bob", "203.0.113.1")):
            began = time.monotonic()
            assert log_in(client, username, PASSWORD, address) == 200
            assert time.monotonic() - began < LOGIN_SECONDS


def test_guesses_from_ever_new_addresses_leave_other_users_their_turn(client: Client) -> None:
    guessers = [f"2001:db8:{number:x}::1" for number in range(12)]
    with guessing(client, guessers, "ann") as statuses:
        eventually(lambda: 429 in statuses)
        assert log_in(client, "bob", PASSWORD, "198.51.100.1") == 200
