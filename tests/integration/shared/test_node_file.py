"""The file that all processes of a node map: whole before anybody can, the same for all."""

import errno
import multiprocessing
import resource
from pathlib import Path

import pytest

from synap.errors import DataDirUnusable
from synap.shared.node_file import map_needed_file, map_node_file

SIZE = 1 << 20


def _mark(path: Path, number: int) -> None:
    memory = map_node_file(path, SIZE, tail=b"%02d" % number)
    memory[number] = 1
    memory.close()


def test_processes_that_come_at_the_same_time_map_the_same_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    marks = [context.Process(target=_mark, args=(tmp_path / "f", n)) for n in range(10)]
    for process in marks:
        process.start()
    for process in marks:
        process.join(30)
    memory = map_node_file(tmp_path / "f", SIZE, tail=b"xx")
    assert memory[:10] == b"\1" * 10
    assert int(memory[-2:]) < 10
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    memory.close()


def test_file_of_another_size_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)
    memory = map_node_file(tmp_path / "f", SIZE)
    assert (len(memory), bytes(memory[:100])) == (SIZE, bytes(100))
    memory.close()


def test_file_has_all_its_blocks_and_is_for_this_user_alone(tmp_path: Path) -> None:
    map_node_file(tmp_path / "f", SIZE).close()
    facts = (tmp_path / "f").stat()
    assert facts.st_blocks * 512 >= SIZE
    assert facts.st_mode & 0o777 == 0o600


def test_no_room_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError) as refused:  # noqa: PT011
            map_node_file(tmp_path / "f", SIZE)
        with pytest.raises(DataDirUnusable, match="make room or set SYNAP_RUN_DIR"):
            map_needed_file(tmp_path / "f", SIZE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []
