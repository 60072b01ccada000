"""A storm of one holder's kills that nobody reads, beside another holder's kills."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from otel_oom.capture.source import Source
from otel_oom.linux.temporary_cgroup import Cgroup
from otel_oom.model.events import CapturedEvent, OomKill, VictimExit
from tests.testlib.kernel.kills import kill_in
from tests.testlib.kernel.memcg import own_memcg

RING_BYTES: Final = 1 << 15
"""Some 25 kills without stacks fit into three quarters of it."""
_STORM: Final = 40


def check_ring_share(source: Source, kill: Callable[[Cgroup], int] = kill_in) -> None:
    """Kill without reading a ring of :data:`RING_BYTES`; check what ``source`` has then.

    The loud holder makes a cgroup for each of its kills. ``kill`` has one process of a cgroup
    killed, and returns its pid.

    Raises:
        AssertionError: a kill of the quiet holder is lost or incomplete, or the loss has no owner.
    """
    with own_memcg() as own, own.child("loud") as loud, own.child("quiet") as quiet:
        own.delegate_memory()
        loud.delegate_memory()
        with ExitStack() as stack:
            cgroups = [stack.enter_context(loud.child(f"n{number}")) for number in range(_STORM)]
            storm = [kill(cgroup) for cgroup in cgroups]
            victims = [kill(quiet), *(kill(cgroup) for cgroup in cgroups[:3])]
            events = _drain(source)
            lost = source.lost_events()
            later = kill(cgroups[0])
            (last,) = (event for event in _drain(source) if isinstance(event, OomKill))
    kills = {event.victim.tgid: event for event in events if isinstance(event, OomKill)}
    exits = {event.tgid for event in events if isinstance(event, VictimExit)}
    _check_complete(kills[victims[0]], quiet.path)
    assert victims[0] in exits

    captured = [pid for pid in storm if pid in kills]
    assert captured == storm[: len(captured)], "a later kill of the storm, not an earlier one"
    assert _STORM / 4 < len(captured) < _STORM, len(captured)
    for pid, cgroup in zip(captured, cgroups, strict=False):
        memcg = kills[pid].memcg
        assert memcg is not None
        assert memcg.path == cgroup.path
        assert kills[pid].victim.executable
    stacks = [bool(kills[pid].stack) for pid in captured]
    assert stacks == sorted(stacks, reverse=True), stacks
    assert stacks[0], "the first kill is complete"
    assert not stacks[-1], "the last one came without stacks"

    assert lost.victims == len(storm) + len(victims) - len(kills)
    assert lost.victims_by_cgroup == {"loud": lost.victims}
    # Its share is free again.
    assert last.victim.tgid == later
    _check_complete(last, cgroups[0].path)


def _check_complete(kill: OomKill, path: str) -> None:
    assert kill.memory is not None
    assert kill.memcg is not None
    assert kill.memcg.path == path
    assert kill.victim.executable
    assert kill.stack


def _drain(source: Source) -> list[CapturedEvent]:
    events: list[CapturedEvent] = []
    source.drain(events.append)
    return events
