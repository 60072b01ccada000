"""Build the event of a kill from a daemon's report and from what the kernel shows of it."""

from __future__ import annotations

import select
import signal
import time
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.capture.userspace.daemon_signals import DaemonSignals
from otel_oom.capture.userspace.daemons import SYSTEMD_OOMD, is_program_of
from otel_oom.capture.userspace.oomd_reports import BUS_NAME, Report
from otel_oom.capture.userspace.prekill import LIST_LIMIT_S, PrekillHook
from otel_oom.capture.userspace.processes import list_processes
from otel_oom.capture.userspace.verifier import KillVerifier
from otel_oom.linux import clock
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.process import ProcessDir, memory_cgroup_path
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.linux.systemd.journal_entry import JournalEntry
from otel_oom.model.events import UserspaceKill, VictimExit
from otel_oom.model.types import Capture, Memcg, Task, TaskList
from otel_oom.model.units import NS_PER_US

SOURCE: Final = "journal"
HOOK: Final = "systemd-journald"
_DRY_RUN: Final = "--dryrun"


class _Target(Struct, frozen=True):
    """The process or the cgroup that a daemon killed; ``is_dead``: the kernel has shown its end."""

    victim: Task | None
    path: str | None
    resident: int | None
    killed: TaskList | None = None
    is_dead: bool = False


class KillBuilder:
    """The victims of reported kills: by signals, by systemd-oomd's hook, and by /proc."""

    def __init__(
        self, epoll: select.epoll, proc: Path, hook_dir: Path, *, want_command: bool
    ) -> None:
        """Watch by ``epoll``; reports from before this moment are recovered."""
        self.boot_id = clock.boot_id()
        self.signals = DaemonSignals(epoll)
        self.hook = PrekillHook(self._list_processes, hook_dir)
        self._since_unix_ns = time.time_ns()
        self._proc = proc
        self._want_command = want_command
        self._processes = ProcessLookup(proc)
        self._cgroups = CgroupMount.find()
        self._verifier = KillVerifier(epoll, self._processes, proc, self._cgroups)

    def close(self) -> None:
        """Stop watching."""
        self.hook.close()
        self.signals.close()
        self._verifier.close()

    def poll_exits(self) -> list[VictimExit]:
        """Return the exits that verify kills, since the last call."""
        self.signals.poll()
        return self._verifier.poll()

    def build_kill(self, report: Report) -> UserspaceKill | None:
        """Return the event of a report; ``None`` if no process was killed."""
        parsed, entry = report.parsed, report.entry
        if self._is_dry_run(entry):
            return None
        recovered = entry.unix_ns < self._since_unix_ns
        can_verify = not recovered and is_program_of(entry.unit, entry.executable)
        target = self._find_target(report, can_verify=can_verify)
        boottime_ns = entry.monotonic_us * NS_PER_US
        if entry.boot_id == self.boot_id:
            # The wall clock may have been set back in between.
            now_ns = clock.boottime_ns()
            boottime_ns = min(now_ns, entry.unix_ns - clock.boot_to_unix_offset_ns())
        tasks = target.killed
        if target.path and parsed.victim is None and not recovered:
            tasks = self._find_tasks(report, target, boottime_ns)
        kill = UserspaceKill(
            boot_id=entry.boot_id,
            boottime_ns=boottime_ns,
            time_unix_ns=entry.unix_ns,
            trigger=None,
            capture=Capture(
                SOURCE,
                BUS_NAME if report.from_bus else HOOK,
                None,
                entry.monotonic_us,
                recovered=recovered,
            ),
            killer=parsed.killer,
            victim=target.victim,
            memcg=Memcg(None, target.path) if target.path else None,
            resident=target.resident,
            usage=parsed.usage,
            tasks=tasks,
            completed=parsed.completed,
            verified=target.is_dead,
            original=parsed.original,
        )
        if can_verify and not target.is_dead:
            kill = self._verifier.verify(kill)
        if can_verify and self._is_empty(report, kill, target):
            if self.signals.are_complete(entry.pid, boottime_ns):
                return None
            return replace(kill, verified=False)
        if report.confirmed or kill.verified:
            return kill
        if report.selected and can_verify:
            return None
        return replace(kill, completed=False)

    def _find_target(self, report: Report, *, can_verify: bool) -> _Target:
        """Return what a daemon killed, by its own signals if the kernel has shown them."""
        parsed, sender = report.parsed, report.entry.pid
        victim = parsed.victim
        if victim and not self._want_command:
            victim = replace(victim, command=None)
        target = _Target(victim, parsed.path, parsed.resident)
        if not can_verify:
            return target
        if victim is None:
            if target.path is None:
                return target
            killed = self.signals.take_cgroup(sender, target.path)
            return replace(target, killed=killed, is_dead=killed is not None)
        sent = self.signals.take_process(sender, victim.tgid)
        if sent is None or not _is_same_name(sent.victim.comm, victim.comm):
            process, path = self._add_process(victim)
            return replace(target, victim=process, path=path or target.path)
        return _Target(
            replace(sent.victim, tid=None, command=victim.command),
            sent.memcg.path if sent.memcg else target.path,
            target.resident or (sent.memory.resident if sent.memory else None),
            # No process survives that signal.
            is_dead=sent.number == signal.SIGKILL,
        )

    def _is_empty(self, report: Report, kill: UserspaceKill, target: _Target) -> bool:
        """Return true for an action of systemd-oomd on a cgroup that had no process left.

        It acts again while its condition lasts, also on processes that still exit.
        """
        if report.entry.unit != SYSTEMD_OOMD or target.path is None:
            return False
        by_rule = report.parsed.killer.rule is not None
        if not (by_rule or report.from_bus):
            sender = report.entry.pid
            return not target.is_dead and self.signals.is_reported(sender, target.path)
        is_uncounted = self._verifier.is_empty_kill(kill)
        # A user can write the count of their own cgroup, but no signal.
        if target.is_dead:
            return False
        # A kill that is not confirmed may still wait for the hook of another program.
        is_over = report.confirmed or kill.verified
        return is_uncounted or (self.signals.is_open and is_over)

    def _find_tasks(self, report: Report, target: _Target, before_ns: int) -> TaskList | None:
        """Return the processes that were killed, or those that await it.

        After the kill, the cgroup can have processes of the service's next start.
        """
        path = target.path or "/"
        listed, completed = self.hook.take(path), report.parsed.completed and report.confirmed
        if target.killed:
            # The hook has all of them. The signals may be those of a kill that goes on.
            return max(target.killed, listed or target.killed, key=lambda tasks: tasks.count)
        if listed or completed or self._cgroups is None or not self._processes.usable:
            return listed
        tasks = list_processes(self._cgroups, path, self._proc, before_ns)
        return tasks or self.hook.take(path)  # which may have answered meanwhile

    def _list_processes(self, path: str) -> TaskList | None:
        if self._cgroups is None or not self._processes.usable:
            return None
        return list_processes(self._cgroups, path, self._proc, limit_s=LIST_LIMIT_S)

    def _add_process(self, victim: Task) -> tuple[Task, str | None]:
        """Return a victim with what /proc still has of it, and the path of its memory cgroup."""
        process = self._processes.by_thread(victim.tgid, None) if victim.tgid else None
        if process is None or not _is_same_name(process.comm, victim.comm):
            return victim, None
        directory = ProcessDir(str(victim.tgid), self._proc)
        score_adj = victim.score_adj
        if score_adj is None:
            score_adj = directory.read_number("oom_score_adj")
        path = memory_cgroup_path(directory.read_text("cgroup") or "")
        return replace(process, tid=None, score_adj=score_adj, command=victim.command), path

    def _is_dry_run(self, entry: JournalEntry) -> bool:
        """Return true if the daemon only simulates kills; unknown for one that has ended."""
        if entry.pid is None or entry.boot_id != self.boot_id:
            return False
        return _DRY_RUN in ProcessDir(entry.pid, self._proc).read_command_line()


def _is_same_name(shown: str | None, logged: str | None) -> bool:
    """Compare two names up to a newline, which can end the logged one."""
    return (shown or "").partition("\n")[0] == (logged or "").partition("\n")[0]
