"""What /proc tells of this process and of its connections."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from synap.node import procfs
from synap.node.procfs import TcpConnection, children_of, connections_on, process_facts


def test_facts_of_this_process_are_plausible() -> None:
    facts = process_facts(os.getpid())
    assert facts is not None
    assert facts.parent_pid == os.getppid()
    assert facts.cpu_seconds > 0
    assert 1 << 20 < facts.resident_bytes < 1 << 34
    assert facts.open_files == pytest.approx(len(os.listdir("/proc/self/fd")), abs=3)
    assert 0 <= facts.age_seconds < 86_400


def test_child_is_found_and_gone_when_it_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.pid in children_of(os.getpid())
    child.communicate(b"\n", timeout=20)
    assert process_facts(child.pid) is None
    assert children_of(child.pid) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connection_tells_its_client_its_process_and_what_waits(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        with socket.create_connection((host, port)) as client:
            accepted, _ = server.accept()
            with accepted:
                client.sendall(b"12345")
                accepted.recv(1, socket.MSG_PEEK)
                own = client.getsockname()[1]
                address = f"[{host}]:{own}" if ":" in host else f"{host}:{own}"
                inode = os.fstat(accepted.fileno()).st_ino
                expected = TcpConnection(inode, address, os.getpid(), 5, 0)
                assert connections_on(port, [os.getpid()]) == [expected]
        assert connections_on(port, [os.getpid()]) == []


def test_client_of_a_listener_for_both_families_has_its_own_address() -> None:
    server = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    port = server.getsockname()[1]
    with server, socket.create_connection(("127.0.0.1", port)) as client:
        own = client.getsockname()[1]
        accepted, _ = server.accept()
        with accepted:
            found = connections_on(port, [])
    assert [each.address for each in found] == [f"127.0.0.1:{own}"]
    assert [each.pid for each in found] == [0]


def test_socket_that_the_kernel_tells_twice_is_one_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    with server, socket.create_connection(("127.0.0.1", port)):
        title, *rows = Path("/proc/net/tcp").read_text().splitlines(keepends=True)
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text("".join([title, *rows, *rows]))
    monkeypatch.setattr(procfs, "_PROC", tmp_path)
    assert len(connections_on(port, [])) == 1
