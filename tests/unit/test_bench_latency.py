"""What the bench says a kill waits for."""

from __future__ import annotations

import functools
import importlib

import pytest

from tests.bench.latency import PARTS, KillTimes
from tests.bench.traced_agent import STEPS

MS = 1_000_000


def kill_times(*, exited: float, recorded: float) -> KillTimes:
    """Return a kill whose times are in milliseconds after its mark."""
    at = [round(ms * MS) for ms in (exited, recorded)]
    return KillTimes(
        marked=0,
        exited=at[0],
        recorded=at[1],
        insert=(5 * MS, 6 * MS),
        complete=(7 * MS, 8 * MS),
        enqueue=(10 * MS, 11 * MS),
        received=13 * MS,
    )


@pytest.mark.parametrize(
    ("exited", "recorded", "printing", "wake_up", "snapshot"),
    [
        (3, 1, 0, 1, 5),  # the agent reads while the console prints
        (1, 3, 1, 2, 3),  # the agent runs once the console is free
        (9, 1, 0, 1, 5),  # the victim exits long after that
    ],
)
def test_parts_add_up_to_the_whole(
    exited: float, recorded: float, printing: float, wake_up: float, snapshot: float
) -> None:
    parts = kill_times(exited=exited, recorded=recorded).split()
    assert tuple(parts) == PARTS
    assert sum(parts.values()) == 13
    assert tuple(parts.values()) == (printing, wake_up, snapshot, 3, 2, 2)


@pytest.mark.parametrize("function", STEPS.values())
def test_each_traced_step_is_a_method_of_the_agent(function: str) -> None:
    module, _, path = function.partition(":")
    assert callable(functools.reduce(getattr, path.split("."), importlib.import_module(module)))
