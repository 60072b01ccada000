"""A kill as each userspace OOM killer logs it, in texts of our own, with the expected values.

They follow the format strings of the programs' sources. Each is tried in the output of each of the
programs that keep its log.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from otel_oom.model.events import UserspaceKill
from tests.testlib.samples.replay_logs import BOOT, ENDED_NS, format_export, format_json

KIB: Final = 1024
MIB: Final = 1024 * KIB
_TABLE_CHARS: Final = 80

PRESSED: Final = "/user.slice/user-1000.slice/user@1000.service/app.slice/run.scope"
WATCHED: Final = "/user.slice/user-1000.slice/user@1000.service"
POD: Final = "/kubepods/burstable/pod5e1f0c2a-0000-4000-8000-000000000001"

Producer = Callable[[str, Sequence[str]], "bytes | list[str]"]


@dataclass(frozen=True, slots=True)
class ExpectedKill:
    """The expected values of a kill; sizes in bytes."""

    killer: str
    pid: int | None = None
    comm: str | None = None
    path: str | None = None
    signal: str | None = "SIGKILL"
    reason: str | None = None
    limit: float | None = None
    pressure: float | None = None
    rule: str | None = None
    uid: int | None = None
    score_adj: int | None = None
    resident: int | None = None
    usage: int | None = None
    completed: bool = True


@dataclass(frozen=True, slots=True)
class DaemonFormat:
    """Messages of a program, named as in the log, and the kills that they report."""

    program: str
    versions: str
    messages: tuple[str, ...]
    kills: tuple[ExpectedKill, ...]
    producers: str = "syslog"

    @property
    def name(self) -> str:
        """Return a name that no other format has."""
        return f"{self.program} {self.versions}"


def kill_of(event: UserspaceKill) -> ExpectedKill:
    """Return the values of an event in the form of the expectation."""
    victim, killer = event.victim, event.killer
    return ExpectedKill(
        killer=killer.name,
        pid=victim.tgid if victim else None,
        comm=victim.comm if victim else None,
        path=event.memcg.path if event.memcg else None,
        signal=killer.signal,
        reason=killer.reason,
        limit=killer.limit,
        pressure=killer.pressure,
        rule=killer.rule,
        uid=victim.uid if victim else None,
        score_adj=victim.score_adj if victim else None,
        resident=event.resident,
        usage=event.usage,
        completed=event.completed,
    )


def _oomd(versions: str, message: str, **values: Any) -> DaemonFormat:  # noqa: ANN401  each caller names them
    kill = ExpectedKill("systemd-oomd", **values)
    return DaemonFormat("systemd-oomd", versions, (message,), (kill,))


def _earlyoom(versions: str, *messages: str, **values: Any) -> DaemonFormat:  # noqa: ANN401  each caller names them
    common = {"reason": "memory_available", "completed": False, **values}
    kill = ExpectedKill("earlyoom", 4711, **common)
    return DaemonFormat("earlyoom", versions, messages, (kill,))


def _android(
    producers: str,
    killer: str,
    versions: str,
    *messages: str,
    **values: Any,  # noqa: ANN401  likewise
) -> DaemonFormat:
    kill = ExpectedKill(killer, 4711, **values)
    return DaemonFormat("lowmemorykiller", f"{killer}, {versions}", messages, (kill,), producers)


_NOHANG: Final = """\
>>=== STARTING implement_corrective_action() ====>>
Memory status that requires corrective actions:
  MemAvailable [410 MiB, 4.1 %] <= soft_threshold_min_mem [500 MiB, 5.0 %]
  SwapFree [0 MiB, 0.0 %] <= soft_threshold_min_swap [0 MiB, - %]
{}
  PID: 4711, {}: web, badness: 840
Victim status (found in 1ms):
  PID:       4711, name: web, state: S (sleeping), EUID: 1000, SID: 4711 (web), lifetime: 3s
  badness:   840, oom_score:  840, oom_score_adj:  500
  Vm, MiB:   Size: 420, RSS: 409 (Anon: 404, File: 5, Shmem: 0), Swap: 0
  cgroup_v1:
  cgroup_v2: /system.slice/web.service
  exe realpath: /usr/bin/web
Implementing a corrective action:
  Sending SIGTERM to the victim
OK; total response time: 15ms"""
_NOHANG_KILL: Final = ExpectedKill(
    "nohang",
    4711,
    "web",
    "/system.slice/web.service",
    signal="SIGTERM",
    reason="memory_available",
    limit=5.0,
    uid=1000,
    score_adj=500,
    resident=409 * MIB,
    completed=False,
)
_RULE: Final = f"Rule 'low' conditions met for cgroup {WATCHED} (lasting 1s), taking action"
_OOMD: Final = (
    "72.10 40.00 12.30 system.slice/web.service 851443712 ruleset:[user protection] "
    "detectorgroup:[pressure above 60] killer:kill_by_memory_size_or_growth v2"
)
_TALOS: Final = '{"component": "controller-runtime", "controller": "runtime.OOMController", '

DAEMON_FORMATS: Final = (
    _oomd(
        "248 to 259, by pressure",
        f"Killed {PRESSED} due to memory pressure for {WATCHED} being 80.12% > 50.00% for > 20s "
        "with reclaim activity",
        path=PRESSED,
        reason="memory_pressure",
        limit=50.0,
        pressure=80.12,
    ),
    _oomd(
        "248, with the mount point",
        f"Killed /sys/fs/cgroup{PRESSED} due to memory pressure for /sys/fs/cgroup{WATCHED} being "
        "80.12% > 50.00% for > 1min 30s with reclaim activity",
        path=PRESSED,
        reason="memory_pressure",
        limit=50.0,
        pressure=80.12,
    ),
    _oomd(
        "248 to 250, by swap",
        f"Killed {PRESSED} due to swap used (7800000000) / total (8000000000) being more than "
        "90.00%",
        path=PRESSED,
        reason="swap_used",
        limit=90.0,
    ),
    _oomd(
        "251 to 259, by memory and swap",
        f"Killed {PRESSED} due to memory used (15500000000) / total (16000000000) and swap used "
        "(7800000000) / total (8000000000) being more than 90.00%",
        path=PRESSED,
        reason="memory_used",
        limit=90.0,
    ),
    _oomd(
        "260 and later, by pressure",
        f"Marked {PRESSED} for killing due to memory pressure for {WATCHED} being 80.12% > 50.00% "
        "for > 20s with reclaim activity",
        path=PRESSED,
        reason="memory_pressure",
        limit=50.0,
        pressure=80.12,
        completed=False,
    ),
    _oomd(
        "260 and later, by memory and swap",
        f"Marked {PRESSED} for killing due to memory used (15500000000) / total (16000000000) and "
        "swap used (7800000000) / total (8000000000) being more than 90.00%",
        path=PRESSED,
        reason="memory_used",
        limit=90.0,
        completed=False,
    ),
    DaemonFormat(
        "systemd-oomd",
        "261 and later, by rule",
        (
            f"{_RULE} kill-by-swap",
            "Considered 31 cgroups for killing, top candidates were:",
            "        Path: /system.slice/other.service",
            "                Swap Usage: 1M",
            f"        Path: {PRESSED}",
            "                Swap Usage: 2M",
        ),
        (ExpectedKill("systemd-oomd", path=PRESSED, rule="low", completed=False),),
    ),
    DaemonFormat(
        "systemd-oomd",
        "261 and later, by rule, all of it",
        (f"{_RULE} kill-all",),
        (ExpectedKill("systemd-oomd", path=WATCHED, rule="low", completed=False),),
    ),
    _earlyoom("0.4 to 1.0", "Killing process 4711 web", comm="web"),
    _earlyoom(
        "1.1",
        "Killing process: web, pid: 4711, badness: 312, VmRSS: 812 MiB",
        comm="web",
        resident=812 * MIB,
    ),
    _earlyoom(
        "1.2",
        "Low Memory! At or below sigterm limits (mem: 10 %, swap: 10 %)",
        "Killing process 'web' with signal 15, pid: 4711, badness: 312, VmRSS: 812 MiB",
        comm="web",
        signal="SIGTERM",
        limit=10.0,
        resident=812 * MIB,
    ),
    _earlyoom(
        "1.3, before its release",
        "low memory! at or below SIGTERM limits: mem 10 %, swap 10 %",
        'killing process 4711 "web" with signal 9: badness 312, VmRSS 812 MiB',
        "process 4711 exited after 1.9 seconds",
        comm="web",
        limit=10.0,
        resident=812 * MIB,
    ),
    _earlyoom(
        "1.3 to 1.5",
        "low memory! at or below SIGTERM limits: mem 10 %, swap 10 %",
        'sending SIGTERM to process 4711 "web": badness 312, VmRSS 812 MiB',
        comm="web",
        signal="SIGTERM",
        limit=10.0,
        resident=812 * MIB,
    ),
    _earlyoom(
        "1.6 to 1.7",
        "low memory! at or below SIGKILL limits: mem  2.00%, swap 100.00%",
        'sending SIGKILL to process 4711 uid 1000 "web": badness 312, VmRSS 812 MiB',
        "kill failed: Timer expired",
        comm="web",
        limit=2.0,
        uid=1000,
        resident=812 * MIB,
    ),
    _earlyoom(
        "1.8 and later",
        "low memory! at or below SIGTERM limits: mem 10.00%, swap 10.00%",
        'sending SIGTERM to process 4711 uid 1000 "web": oom_score 900, oom_score_adj -300, '
        'VmRSS 812 MiB, cmdline "web --secret=1"',
        "process 4711 exited after 0.100 seconds",
        comm="web",
        signal="SIGTERM",
        limit=10.0,
        uid=1000,
        score_adj=-300,
        resident=812 * MIB,
    ),
    DaemonFormat(
        "nohang",
        "0.1",
        tuple(_NOHANG.format("Process with highest badness (found in 12 ms):", "Name").split("\n")),
        (_NOHANG_KILL,),
    ),
    DaemonFormat(
        "nohang-desktop",
        "0.2 and later",
        tuple(
            _NOHANG.format("TOP printed in 1ms; process with highest badness:", "name").split("\n")
        ),
        (_NOHANG_KILL,),
    ),
    DaemonFormat(
        "oomd",
        "0.2 and later",
        (_OOMD,),
        (
            ExpectedKill(
                "oomd",
                path="/system.slice/web.service",
                pressure=72.1,
                rule="user protection (kill_by_memory_size_or_growth)",
                usage=851443712,
            ),
        ),
    ),
    DaemonFormat(
        "talos",
        "1.12 and later",
        (
            f"[talos] OOM controller triggered {_TALOS[:-2]}}}",
            f'[talos] Sending SIGKILL to cgroup {_TALOS}"cgroup": "/sys/fs/cgroup{POD}"}}',
            f'[talos] victim processes: {_TALOS}"processes": [4711, 4712]}}',
        ),
        (ExpectedKill("talos", path=POD, reason="memory_pressure"),),
        "talos",
    ),
    _android(
        "driver",
        "lowmemorykiller",
        "2.6.29 to 3.9",
        "send sigkill to 4711 (com.example.web), adj 12, size 5000",
        comm="com.example.web",
        reason="memory_available",
        resident=5000 * 4096,
    ),
    _android(
        "driver",
        "lowmemorykiller",
        "of vendors",
        "send sigkill to 4711 (com.example.web), score_adj 529,adj 9, size 5000 with ofree 1 2, "
        "cfree 3 4 msa 529 ma 9",
        comm="com.example.web",
        reason="memory_available",
        resident=5000 * 4096,
    ),
    _android(
        "driver",
        "lowmemorykiller",
        "3.10 to 4.11",
        "lowmemorykiller: Killing 'com.example.web' (4711), adj 1000,",
        "   to free 20784kB on behalf of 'kswapd0' (56) because",
        "   cache 32112kB is below limit 32384kB for oom_score_adj 1000",
        "   Free memory is 17432kB above reserved",
        comm="com.example.web",
        reason="memory_available",
        score_adj=1000,
        resident=20784 * KIB,
    ),
    _android(
        "driver",
        "lowmemorykiller",
        "4.4 of Qualcomm",
        "lowmemorykiller: Killing 'example.web' (4715) (tgid 4711), adj 906,",
        "   to free 20784kB on behalf of 'kswapd0' (56) because",
        comm="example.web",
        reason="memory_available",
        score_adj=906,
        resident=20784 * KIB,
    ),
    _android(
        "logcat",
        "lmkd",
        "Android 5 to 8",
        "Killing 'com.example.web' (4711), uid 10117, adj 900",
        "   to free 47396kB because cache 32112kB is below limit 32384kB for oom_adj 900",
        "   Free memory is 17432kB above reserved",
        comm="com.example.web",
        reason="memory_available",
        uid=10117,
        score_adj=900,
        resident=47396 * KIB,
    ),
    _android(
        "logcat",
        "lmkd",
        "Android 9",
        "Killing 'com.example.web:remote' (4711), uid 10117, adj 902",
        "   to free 47396kB because system is under medium memory pressure oom_adj 800",
        comm="com.example.web:remote",
        reason="memory_pressure",
        uid=10117,
        score_adj=902,
        resident=47396 * KIB,
    ),
    _android(
        "logcat",
        "lmkd",
        "Android 10",
        "Kill 'com.example.web' (4711), uid 10117, oom_adj 900 to free 47396kB",
        comm="com.example.web",
        uid=10117,
        score_adj=900,
        resident=47396 * KIB,
    ),
    _android(
        "logcat",
        "lmkd",
        "Android 11 and later",
        "Kill 'com.example.web' (4711), uid 10117, oom_score_adj 0 to free 47396kB rss, 37404kB "
        "swap; reason: device is low on swap (0kB < 209712kB) and thrashing (120%)",
        comm="com.example.web",
        reason="swap_used",
        uid=10117,
        score_adj=0,
        resident=47396 * KIB,
    ),
)


def _each(form: str) -> Producer:
    """Return a producer that writes each message with its text and program in a line."""
    return lambda program, texts: [
        form.replace("{program}", program).replace("{}", text) for text in texts
    ]


def _entries(program: str, texts: Sequence[str]) -> list[dict[str, str]]:
    executable = "python3.13" if program.startswith("nohang") else program
    return [
        {
            "__CURSOR": f"s=0;i={index}",
            "__REALTIME_TIMESTAMP": str(ENDED_NS // 1000 + index),
            "__MONOTONIC_TIMESTAMP": str(105_000_000 + index),
            "_BOOT_ID": BOOT,
            "_HOSTNAME": "db1",
            "_TRANSPORT": "stdout",
            "_SYSTEMD_UNIT": f"{program}.service",
            "_EXE": f"/usr/bin/{executable}",
            "_PID": "700",
            "SYSLOG_FACILITY": "3",
            "SYSLOG_IDENTIFIER": program,
            "MESSAGE": text,
        }
        for index, text in enumerate(texts)
    ]


def _verbose(program: str, texts: Sequence[str]) -> list[str]:
    return [
        line
        for entry in _entries(program, texts)
        for line in (
            "Tue 2023-11-14 21:00:00.000000 UTC [s=aa;i=1;b=bb;m=cc;t=dd;x=ee]",
            *(f"    {name}={value}" for name, value in entry.items() if name[:2] != "__"),
        )
    ]


DAEMON_PRODUCERS: Final[dict[str, dict[str, Producer]]] = {
    "syslog": {
        "syslog": _each("Nov 14 21:00:00 db1 {program}[700]: {}"),
        "syslog, RFC 3339": _each("2023-11-14T21:00:00.5+01:00 db1 {program}[700]: {}"),
        "syslog, RFC 5424": _each("<28>1 2023-11-14T21:00:00Z db1 {program} 700 - - {}"),
        "syslog of BusyBox": _each("Nov 14 21:00:00 db1 daemon.warn {program}[700]: {}"),
        "journalctl": _each("Nov 14 21:00:00 db1 {program}[700]: {}"),
        "journalctl --no-hostname": _each("Nov 14 21:00:00 {program}[700]: {}"),
        "journalctl, locale": _each("nov. 14 21:00:00 db1 {program}[700]: {}"),
        "journalctl -o short-iso": _each("2023-11-14T21:00:00+0000 db1 {program}[700]: {}"),
        "journalctl -o short-full": _each("Tue 2023-11-14 21:00:00 UTC db1 {program}[700]: {}"),
        "journalctl -o short-monotonic": _each("[  100.000000] db1 {program}[700]: {}"),
        "journalctl -o json": lambda program, texts: format_json(_entries(program, texts)),
        "journalctl -o json-pretty": lambda program, texts: "\n".join(
            json.dumps(entry, indent=8) for entry in _entries(program, texts)
        ).encode(),
        "journalctl -o export": lambda program, texts: format_export(_entries(program, texts)),
        "journalctl -o verbose": _verbose,
        "dmesg": _each("[  100.000000] {program}[700]: {}"),
        "grep -n in several files": _each("daemon.log:12:Nov 14 21:00:00 db1 {program}[700]: {}"),
        "a quotation": _each("> Nov 14 21:00:00 db1 {program}[700]: {}"),
        "a job of CI": _each("2023-11-14T21:00:00.5Z Nov 14 21:00:00 db1 {program}[700]: {}"),
        "Google Cloud Logging": lambda program, texts: [
            json.dumps({"jsonPayload": entry, "timestamp": "2023-11-14T21:00:00.5Z"})
            for entry in _entries(program, texts)
        ],
        "JSON of a collector": lambda program, texts: [
            json.dumps({"message": text, "ident": program, "host": "db1"}) for text in texts
        ],
    },
    "talos": {
        "talosctl dmesg": _each("10.5.0.2: user: warning: [2023-11-14T21:00:00.5Z]: {}"),
        "/dev/kmsg": _each("12,1000,100000000,-;{}"),
        "dmesg": _each("[  100.000000] {}"),
        "dmesg -r": _each("<12>[  100.000000] {}"),
        "dmesg -x": _each("user  :warn  : [  100.000000] {}"),
        "JSON to a destination": lambda _, texts: [
            json.dumps(
                {
                    "facility": "user",
                    "msg": text,
                    "priority": "warning",
                    "talos-level": "warn",
                    "talos-time": "2023-11-14T21:00:00.5Z",
                }
            )
            for text in texts
        ],
    },
    "driver": {
        "dmesg": _each("[  100.000000] {}"),
        "dmesg -r, last_kmsg": _each("<6>[  100.000000] {}"),
        "of a phone": _each("<6>[  100.000000]  (0)[56:kswapd0]{}"),
        "/dev/kmsg": _each("6,1000,100000000,-;{}"),
        "/dev/kmsg, in one record": lambda _, texts: ["6,1000,100000000,-;" + "\\x0a".join(texts)],
        "syslog": _each("Nov 14 21:00:00 db1 kernel: [  100.000000] {}"),
        "logcat -b kernel": lambda _, texts: [
            f"11-14 21:00:00.123     0     0 I {'' if ': ' in text else '        : '}{text}"
            for text in texts
        ],
    },
    "logcat": {
        "logcat": _each("11-14 21:00:00.123   710   712 I {program}: {}"),
        "logcat -v year -v zone": _each(
            "2023-11-14 21:00:00.123 +0100   710   712 I {program}: {}"
        ),
        "logcat -v uid": _each("11-14 21:00:00.123  lmkd   710   712 I {program}: {}"),
        "logcat -v epoch": _each("1700000000.123   710   712 I {program}: {}"),
        "logcat -v monotonic": _each("      100.123   710   712 I {program}: {}"),
        "logcat -v time": _each("11-14 21:00:00.123 I/{program}(  710): {}"),
        "logcat -v brief": _each("I/{program}(  710): {}"),
        "logcat -v tag": _each("I/{program}: {}"),
        "logcat -v long": lambda program, texts: [
            "--------- beginning of main",
            *(
                line
                for text in texts
                for line in (f"[ 11-14 21:00:00.123   710:  712 I/{program:<8} ]", text, "")
            ),
        ],
        "logcat -v process": _each("I(  710) {}  ({program})"),
        "grep in several files": _each("a.log:11-14 21:00:00.123   710   712 I {program}: {}"),
        "grep -n of brief": _each("12:I/{program}(  710): {}"),
    },
}
"""The programs that keep a daemon's log, by the kind of that log."""


def format_daemon_table() -> Iterator[str]:
    """Yield the rows of the table: program, versions, a line, and the values of its kill."""
    yield "| killer | versions | the message of the kill | values |"
    yield "| --- | --- | --- | --- |"
    for form in DAEMON_FORMATS:
        kill = form.kills[0]
        named = ("pid", "comm", "path", "signal", "reason", "limit", "pressure", "rule", "uid")
        names = (*named, "score_adj", "resident", "usage")
        values = [name.replace("_", " ") for name in names if getattr(kill, name) is not None]
        message = max(form.messages, key=_mentions_kill)
        cells = (kill.killer, form.versions.removeprefix(f"{kill.killer}, "))
        shown = textwrap.shorten(message, _TABLE_CHARS, placeholder=" …")
        yield f"| {' | '.join(cells)} | `{shown}` | {', '.join(values)} |"


def _mentions_kill(message: str) -> int:
    words = ("ending SIG", "ending SIG", "ill", "sigkill", "Rule", "4711 ")
    return sum(word in message for word in words)


def format_daemon_producers() -> Iterator[str]:
    """Yield the producers of the daemons' logs."""
    for kind, producers in DAEMON_PRODUCERS.items():
        programs = {form.kills[0].killer for form in DAEMON_FORMATS if form.producers == kind}
        yield f"- {', '.join(sorted(programs))}: {'; '.join(producers)}"
