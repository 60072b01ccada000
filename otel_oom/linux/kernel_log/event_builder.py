"""What the kernel's log tells, into events, with what /proc adds to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from otel_oom.linux.kernel_log.candidates import candidates, process_of
from otel_oom.linux.kernel_log.line_types import Killed, Line
from otel_oom.linux.kernel_log.report import LoggedKill, LoggedNoVictim, Report, decision
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import NoVictim, OomKill
from otel_oom.model.text import escape_controls
from otel_oom.model.types import Capture, LogProvenance, Memcg, Task

_SILENCE_NS: Final = 1_000_000_000
"""How long the same want of memory is only counted; an allocation may repeat it without end."""
_MOST_SILENCES: Final = 64
_MOST_SEEN: Final = 8
_BY_ASKING: Final = "oom_kill_allocating_task"
"""The sysctl that has the thread killed which asked, in place of a process that is chosen."""


@dataclass(slots=True)
class _Silence:
    told_ns: int
    repeats: int = 0


@dataclass(slots=True)
class EventBuilder:
    """Makes the events of one boot and source."""

    boot_id: str
    source: str
    hook: str
    processes: ProcessLookup
    _silences: dict[str | None, _Silence] = field(default_factory=dict)
    _first: tuple[int, OomKill] | None = None
    _seen: dict[tuple[int, str | None], Task | None] = field(default_factory=dict)

    def notice(self, report: Report) -> None:
        """Look now at those whom a report names: at its end they may be gone."""
        if report.named:
            self._look(report.named.pid, report.named.comm)
        elif report.invoked and report.tid is not None:
            self._seen.clear()
            self._look(report.tid, report.invoked.comm)

    def _look(self, tid: int, comm: str | None) -> None:
        if len(self._seen) < _MOST_SEEN:
            self._seen[tid, comm] = self.processes.by_thread(tid, comm)

    def _process(self, tid: int, comm: str | None) -> Task | None:
        return self._seen.get((tid, comm)) or self.processes.by_thread(tid, comm)

    def kill(
        self,
        event: LoggedKill,
        boottime_ns: int,
        unix_offset_ns: int,
        provenance: LogProvenance | None = None,
    ) -> OomKill:
        """The kill at that time of CLOCK_BOOTTIME; the offset leads from there to Unix time.

        The swap that the victim held is not in the log, nor is its cgroup's inode.
        """
        report = event.report
        victim = self._victim(event)
        first = self._first_of(event)
        # What a group's other members have of the report is how it was decided, not who they are.
        memcg = _task_memcg(report) if report and not event.first else None
        asking = report.asking_memcg if report else None
        kill = OomKill(
            **self._shared(event.line, report, event.told.message, boottime_ns, unix_offset_ns),
            trigger=first.trigger if first else self._trigger(event, victim),
            victim=victim,
            memory=event.told.memory if isinstance(event.told, Killed) else None,
            memcg=Memcg(None, memcg) if memcg else None,
            trigger_memcg=Memcg(None, asking) if asking else None,
            incident=first.uid if first else None,
            skipped=not isinstance(event.told, Killed),
            original=event.text,
            tasks=None if event.first else candidates(report, event, boottime_ns),
            provenance=provenance,
        )
        self._seen.clear()
        if not event.first:
            self._first = event.line.sequence, kill
        return kill

    def no_victim(
        self,
        event: LoggedNoVictim,
        boottime_ns: int,
        unix_offset_ns: int,
        provenance: LogProvenance | None = None,
    ) -> NoVictim | None:
        """The want of memory; ``None`` if the same was told a moment ago."""
        shared = self._shared(event.line, event.report, None, boottime_ns, unix_offset_ns)
        where = event.report.limit_of if event.report else None
        silence = self._silences.pop(where, _Silence(boottime_ns - _SILENCE_NS))
        if len(self._silences) >= _MOST_SILENCES:
            del self._silences[next(iter(self._silences))]
        if boottime_ns - silence.told_ns < _SILENCE_NS:
            silence.repeats += 1
            self._silences[where] = silence
            return None
        self._silences[where] = _Silence(boottime_ns)
        return NoVictim(
            **shared,
            trigger=self._asking(event.report, None),
            repeat_count=silence.repeats,
            original=event.report.text if event.report else escape_controls(event.line.text),
            provenance=provenance,
        )

    def _shared(
        self,
        line: Line,
        report: Report | None,
        message: str | None,
        boottime_ns: int,
        unix_offset_ns: int,
    ) -> dict[str, Any]:
        """What every event has that the log tells by itself."""
        return {
            "boot_id": self.boot_id,
            "boottime_ns": boottime_ns,
            "time_unix_ns": boottime_ns + unix_offset_ns,
            "decision": decision(report, message, self.hook),
            "capture": Capture(self.source, self.hook, cpu=None, sequence=line.sequence),
            "stack": report.stack if report else (),
        }

    def _first_of(self, event: LoggedKill) -> OomKill | None:
        """The kill that this one belongs to."""
        if event.first is None or self._first is None:
            return None
        sequence, kill = self._first
        return kill if sequence == event.first.line.sequence else None

    def _victim(self, event: LoggedKill) -> Task:
        """Its process's id is the logged one unless /proc tells: nearly always its first thread's.

        find_lock_task_mm() takes another thread only where the first has exited by itself.
        """
        told, chosen = event.told, event.report.chosen if event.report else None
        if told.pid is None:
            return Task(None, comm=told.comm)
        process = self._process(told.pid, told.comm)
        tgid = process_of(event.report, told.pid)
        if chosen and not event.first and _BY_ASKING not in (told.message or ""):
            tgid = chosen.pid
        task = process or Task(tgid, told.pid, comm=told.comm)
        if isinstance(told, Killed):
            # Older kernels print neither.
            uid = task.uid if told.uid is None else told.uid
            score_adj = task.score_adj if told.score_adj is None else told.score_adj
            task = replace(task, uid=uid, score_adj=score_adj)
        return _listed(task, event.report)

    def _trigger(self, event: LoggedKill, victim: Task) -> Task | None:
        if event.report is None and event.line.caller is not None:
            # Without a report, the thread that printed the line is still the one that asked.
            return self.processes.by_thread(event.line.caller, None)
        return self._asking(event.report, victim)

    def _asking(self, report: Report | None, victim: Task | None) -> Task | None:
        """Who asked for memory; its process is known by /proc, or by being the victim's."""
        if report is None or report.invoked is None or report.tid is None:
            return None
        invoked = report.invoked
        task = self._process(report.tid, invoked.comm)
        if task is None and victim is not None and report.tid in {victim.tid, victim.tgid}:
            task = replace(victim, tid=report.tid, comm=invoked.comm)
        if task is None and report.table and report.tid in report.table.total_vm:
            task = Task(process_of(report, report.tid), report.tid, comm=invoked.comm)
        return replace(task, score_adj=invoked.score_adj) if task else None


def _listed(victim: Task, report: Report | None) -> Task:
    """The victim with what the report has of it, where the line of its kill has less."""
    row = report.table.row(victim.tid) if report and report.table else None
    uid = row.uid if row else None
    if uid is None and report and report.chosen and report.chosen.pid == victim.tid:
        uid = report.chosen.uid
    return replace(
        victim,
        uid=uid if victim.uid is None else victim.uid,
        score_adj=row.score_adj if row and victim.score_adj is None else victim.score_adj,
    )


def _task_memcg(report: Report) -> str | None:
    return (report.chosen.task_memcg if report.chosen else None) or report.task_memcg
