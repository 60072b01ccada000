"""The messages of nohang 0.3, whose lines are entries of the journal."""

from __future__ import annotations

from otel_oom.capture.userspace.messages import ParsedKill
from otel_oom.capture.userspace.nohang import NohangParser
from otel_oom.model.types import Task, UserspaceOomDaemon

LINES = """\
>>=== STARTING implement_corrective_action() ====>>
Memory status that requires corrective actions:
  MemAvailable [812 MiB, 41.2 %] <= soft_threshold_min_mem [1182 MiB, 60.0 %]
  SwapFree [0 MiB, 0.0 %] <= soft_threshold_min_swap [0 MiB, - %]
Process with highest badness (found in 12ms):
  PID: 4711, Name: hog, badness: 840
Victim status (found in 1ms):
  PID:       4711, name: hog, state: S (sleeping), EUID: 1000, SID: 4711 (hog), lifetime: 3s
  badness:   840, oom_score:  840, oom_score_adj:  500
  Vm, MiB:   Size: 420, RSS: 409 (Anon: 404, File: 5, Shmem: 0), Swap: 0
  cgroup_v1:
  cgroup_v2: /system.slice/hog.service
  exe realpath: /usr/bin/python3.13
  cwd realpath: /
Implementing a corrective action:
  Sending SIGTERM to the victim
OK; total response time: 15ms""".splitlines()

KILL = ParsedKill(
    UserspaceOomDaemon("nohang", signal="SIGTERM", reason="memory_available", limit=60.0),
    original="Sending SIGTERM to the victim: PID 4711, name hog",
    victim=Task(4711, uid=1000, comm="hog", score_adj=500),
    path="/system.slice/hog.service",
    resident=409 << 20,
    completed=False,
)


def feed(parser: NohangParser, *lines: str) -> list[ParsedKill]:
    """Return the kills of the lines."""
    return [kill for line in lines if (kill := parser.feed(line))]


def test_one_kill_of_many_lines() -> None:
    """With and without the blanks, which a journal may strip."""
    parser = NohangParser()
    assert feed(parser, *LINES) == [KILL]
    assert feed(parser, *(line.strip() for line in LINES)) == [KILL]


def test_a_kill_needs_its_own_victim() -> None:
    """A second signal without a victim is none; another cause is not that of the last kill."""
    parser = NohangParser()
    assert feed(parser, *LINES[:-2]) == []
    assert feed(parser, LINES[-2], LINES[-2]) == [KILL]
    (kill,) = feed(parser, LINES[5], LINES[-2])
    assert (kill.killer.limit, kill.killer.reason, kill.resident) == (None, None, None)
    assert kill.victim == Task(4711, comm="hog")


def test_other_lines_are_no_kills() -> None:
    parser = NohangParser()
    assert feed(parser, LINES[7], "The victim died in 0.1s", "Sending SIGTERM", 99_999 * "x") == []
    assert feed(parser, "PID: 0, Name: a, badness: 1", LINES[-2]) == []
