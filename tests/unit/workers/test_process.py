"""What a node's processes are started with."""

from __future__ import annotations

from workers.process import child_environment

ALLOCATOR = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def test_child_environment_sets_the_allocator_up_unless_the_operator_has() -> None:
    first, second = ALLOCATOR
    environment = child_environment({first: "7"}, None, {})
    assert environment[first] == "7"
    assert int(environment[second]) > 1_048_576
