"""Values of events."""

from __future__ import annotations

from otel_oom.model.types import Memory


def test_resident_memory_has_no_swap_and_page_tables() -> None:
    memory = Memory(total_vm=1, anon=2, file=4, shmem=8, swap=16, page_tables=32)
    assert memory.resident == 14
