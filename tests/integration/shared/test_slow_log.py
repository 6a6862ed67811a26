"""The slow log's rings in shared memory."""

from pathlib import Path

from synap.shared.slow_log import SlowEntry, SlowLog, reset_slow_log, slow_entries


def entry(number: int, argument: str = "/kv/get/a") -> SlowEntry:
    return SlowEntry(number, number, "GET /kv/get/{key}", argument, "r1")


def durations(folder: Path) -> list[int]:
    return [each.duration_us for each in slow_entries(folder)]


def test_entries_of_all_rings_come_newest_first(tmp_path: Path) -> None:
    first, second = SlowLog(tmp_path), SlowLog(tmp_path)
    first.add(entry(1))
    second.add(entry(2))
    first.add(entry(3))
    assert durations(tmp_path) == [3, 2, 1]
    assert len({each.id for each in slow_entries(tmp_path)}) == 3
    first.close()
    second.close()


def test_full_ring_loses_the_oldest_and_outlives_its_process(tmp_path: Path) -> None:
    ring = SlowLog(tmp_path)
    for number in range(1, 301):
        ring.add(entry(number))
    ring.close()
    assert durations(tmp_path) == list(range(300, 172, -1))


def test_reset_hides_what_was_and_not_what_comes(tmp_path: Path) -> None:
    ring = SlowLog(tmp_path)
    ring.add(entry(1))
    reset_slow_log(tmp_path)
    assert slow_entries(tmp_path) == []
    ring.add(entry(2))
    assert durations(tmp_path) == [2]
    ring.close()


def test_long_texts_are_cut_to_an_entrys_room(tmp_path: Path) -> None:
    ring = SlowLog(tmp_path)
    long = "ä" * 500
    ring.add(SlowEntry(1, 1, long, long, long))
    kept = slow_entries(tmp_path)[0]
    assert kept.argument.startswith("ää")
    assert kept.argument.endswith("…")
    ring.close()


def test_entry_that_is_being_overwritten_is_left_out(tmp_path: Path) -> None:
    ring = SlowLog(tmp_path)
    ring.add(entry(1))
    ring.add(entry(2))
    path = tmp_path / "slowlog-0"
    content = bytearray(path.read_bytes())
    content[512 * 2 + 20] ^= 0xFF
    path.write_bytes(content)
    assert durations(tmp_path) == [2]
    ring.close()
