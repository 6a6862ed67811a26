"""The live store between real processes: commits, dead readers, forks, a full disk."""

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from synap.commands.records import NEVER
from synap.place import LogEnd
from synap.position import NO_HISTORY, Position
from synap.store import Applied, Store

MAP_BYTES = 16 * 1024 * 1024
DEADLINE_SECONDS = 20

READER = """
import sys
from pathlib import Path
from synap.store import StoreReader
reader = StoreReader.open(Path(sys.argv[1]))
print("open", flush=True)
for line in sys.stdin:
    record, end = reader.get(line.strip().encode())
    print(record and record.value[:9].decode(), end.offset, flush=True)
"""

HOLDER = """
import sys
from pathlib import Path
from synap.store.environment import Environment
from synap.store.generations import folder_in_use
with Environment(folder_in_use(Path(sys.argv[1]))).reading():
    print("holding", flush=True)
    sys.stdin.read()
"""

FORKER = """
import os, sys
from pathlib import Path
from synap.errors import StoreError
from synap.store import Store, StoreReader

def refused(call):
    try:
        call()
    except StoreError:
        return "refused"
    return "went on"

store = Store.open(Path(sys.argv[1]), 1 << 24)
reader = store.reader()
reader.get(b"k")
if (child := os.fork()) == 0:
    calls = [lambda: reader.get(b"k"), lambda: reader.count(0), store.begin]
    print(*[refused(call) for call in calls], flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(reader.get(b"k")[0].value.decode(), flush=True)
store.close(clean=False)
"""

FILLER = """
import os, sys
from pathlib import Path
from synap.commands.records import NEVER
from synap.errors import DiskFull
from synap.place import LogEnd
from synap.position import NO_HISTORY, Position
from synap.store import Applied, Store

root = Path(sys.argv[1])
ballast = root.parent / "ballast"
ballast.write_bytes(bytes(1 << 20))
store = Store.create(root, 1 << 30)
stored = 0

def put(key):
    global stored
    transaction = store.begin()
    try:
        transaction.put(key, bytes(100_000), NEVER)
        transaction.set_applied(Applied(Position(1, stored + 1, 0), 1, 0, 0))
        transaction.commit()
    except DiskFull:
        transaction.abort()
        return False
    stored += 1
    return True

while put(b"k%d" % stored):
    pass
assert 5 < stored < 40, stored
assert store.applied.position.offset == stored
assert store.reader().digest()[:2] == (stored, stored)
if (child := os.fork()) == 0:
    code = "import sys; from pathlib import Path; from synap.store import StoreReader;"
    code += "print(StoreReader.open(Path(sys.argv[1])).get(b'k0')[1].offset)"
    os.execv(sys.executable, [sys.executable, "-c", code, str(root)])
assert os.waitpid(child, 0)[1] == 0
store.close(clean=True)
store = Store.open(root, 1 << 30)
ballast.unlink()
assert put(b"after")
store.close(clean=False)
print("went on", flush=True)
"""


class Peer:
    """Another process, spoken to by lines."""

    def __init__(self, script: str, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        return self.hear()

    def hear(self) -> str:
        """Return the next line; fail where none comes in time."""
        assert self.process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_SECONDS)
            assert ready, "the other process said nothing"
            byte = os.read(self.process.stdout.fileno(), 1)
            assert byte, "the other process ended"
            line += byte
        return line.decode().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE_SECONDS)


@contextmanager
def peer(script: str, root: Path) -> Iterator[Peer]:
    other = Peer(script, root)
    try:
        yield other
    finally:
        other.kill()
        for pipe in (other.process.stdin, other.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.create(tmp_path, MAP_BYTES)
    yield store
    store.close(clean=False)


def write(store: Store, value: bytes) -> None:
    offset = store.applied.position.offset + 1
    transaction = store.begin()
    transaction.put(b"k", value, NEVER)
    transaction.set_applied(Applied(Position(1, offset, 7), 1, 100, 5))
    transaction.commit()


def test_readers_in_other_processes_see_each_commit(tmp_path: Path, store: Store) -> None:
    with peer(READER, tmp_path) as first, peer(READER, tmp_path) as second:
        assert first.hear() == second.hear() == "open"
        assert first.ask("k") == "None 0"
        for number in range(1, 4):
            write(store, b"v%d" % number)
            assert first.ask("k") == second.ask("k") == f"v{number} {number}"


def test_reader_of_another_process_follows_the_file_as_it_grows(
    tmp_path: Path, store: Store
) -> None:
    with peer(READER, tmp_path) as other:
        assert other.hear() == "open"
        transaction = store.begin()
        for number in range(12):
            transaction.put(b"%d" % number, b"x" * 1_000_000, NEVER)
        transaction.commit()
        write(store, b"last")
        assert other.ask("k") == "last 1"
        assert other.ask("11") == "xxxxxxxxx 1"


def test_reader_check_frees_the_slot_of_a_killed_reader(tmp_path: Path, store: Store) -> None:
    with peer(HOLDER, tmp_path) as other:
        assert other.hear() == "holding"
        write(store, b"1")
        write(store, b"2")
        facts = store.facts()
        assert (facts.readers, facts.oldest_reader_age) == (1, 2)
        assert store.reader_check() == 0
        other.kill()
        assert store.reader_check() == 1
        assert store.facts().readers == 0


def test_store_in_a_forked_child_is_refused_and_the_parents_goes_on(tmp_path: Path) -> None:
    store = Store.create(tmp_path, MAP_BYTES)
    write(store, b"v")
    store.close(clean=False)
    with peer(FORKER, tmp_path) as other:
        assert other.hear() == "refused refused refused"
        assert other.hear() == "v"
        assert other.process.wait(DEADLINE_SECONDS) == 0


def test_owner_killed_between_transactions_leaves_whole_ones(tmp_path: Path) -> None:
    script = READER.replace("StoreReader.open(Path(sys.argv[1]))", "store.reader()")
    script = script.replace("import StoreReader", "import Store, Applied")
    script = script.replace("reader =", WRITE_TWO + "reader =")
    with peer(script, tmp_path) as owner:
        assert owner.hear() == "open"
        owner.kill()
    store = Store.open(tmp_path, MAP_BYTES)
    assert store.applied.position.offset == 1
    assert store.reader().get(b"half") == (None, LogEnd(1, NO_HISTORY))
    write(store, b"on")
    store.close(clean=False)


WRITE_TWO = """
from synap.position import Position
store = Store.create(Path(sys.argv[1]), 1 << 24)
transaction = store.begin()
transaction.put(b"k", b"v", 0)
transaction.set_applied(Applied(Position(1, 1, 0), 1, 0, 0))
transaction.commit()
transaction = store.begin()
transaction.put(b"half", b"v", 0)
transaction.set_applied(Applied(Position(1, 2, 0), 1, 0, 0))
"""


def test_disk_when_full_refuses_writes_serves_new_readers_and_goes_on(tmp_path: Path) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "--"]
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)]
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            [*unshare, *mount], capture_output=True, timeout=DEADLINE_SECONDS, check=False
        ).returncode
    ):
        pytest.skip("this machine lets nobody mount a small file system")
    shell = ["sh", "-c", '"$@" && exec "$0" -c "$FILLER" "$ROOT"', sys.executable, *mount]
    done = subprocess.run(
        [*unshare, *shell],
        env={**os.environ, "FILLER": FILLER, "ROOT": str(tmp_path / "store")},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("went on\n")
