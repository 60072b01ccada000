"""Kills by userspace OOM daemons in old logs: what is one, what is none, and what is one event."""

from __future__ import annotations

import json

import pytest

from otel_oom.commands.replay.deduplicate import Deduplicator
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.types import JOURNAL, TEXT_FILE, UNVERIFIED
from tests.testlib.samples.daemon_messages import (
    DAEMON_FORMATS,
    DAEMON_PRODUCERS,
    PRESSED,
    DaemonFormat,
)
from tests.testlib.samples.events import roundtrip
from tests.testlib.samples.log_lines import KILLED, REPORT
from tests.testlib.samples.replay_logs import dmesg_lines, replay, syslog_lines

SENDING = (
    'sending SIGTERM to process 4711 uid 1000 "web": oom_score 900, oom_score_adj 0, VmRSS 812 MiB'
)
OOMD = (
    f"Killed {PRESSED} due to memory used (15500000000) / total (16000000000) and swap used "
    "(7800000000) / total (8000000000) being more than 90.00%"
)
LMKD = "Kill 'com.example.web' (4711), uid 10117, oom_score_adj 900 to free 47396kB rss, 0kB swap"
DRIVER = "lowmemorykiller: Killing 'com.example.web' (4711), adj 1000,"
LOW = "low memory! at or below SIGTERM limits: mem 10.00%, swap 10.00%"
SYSRQ = (REPORT[0].replace("order=0", "order=-1"), *REPORT[1:], KILLED)
BY_KERNEL = "trigger_kernel_oom: successfully triggered kernel OOM killer"


def earlyoom(text: str, second: int = 0, host: str = "db1") -> str:
    """Return a line of earlyoom."""
    return f"Nov 14 21:00:{second:02} {host} earlyoom[700]: {text}"


ANDROID = "11-14 21:00:00.123   710   710 I"
FOREIGN_UNIT = {"_TRANSPORT": "stdout", "_SYSTEMD_UNIT": "bot.service"}
HOOK = {"_TRANSPORT": "stdout", "_SYSTEMD_UNIT": "earlyoom.service", "_EXE": "/usr/bin/bash"}

NO_KILLS = [
    f"Nov 14 21:00:00 db1 bot[12]: {SENDING}",
    f"Nov 14 21:00:00 db1 bot[12]: {OOMD}",
    f"Nov 14 21:00:00 db1 bot: {earlyoom(SENDING)}",
    f"Nov 14 21:00:00 db1 bot[12]: log says: {earlyoom(SENDING)}",
    f"Nov 14 21:00:00 db1 chat[12]: <ann> my log has: {OOMD}",
    f"Nov 14 21:00:00 db1 earlyoomer[700]: {SENDING}",
    f"Nov 14 21:00:00 db1 not-systemd-oomd[700]: {OOMD}",
    f"Nov 14 21:00:00 db1 kernel: {SENDING}",
    f"Nov 14 21:00:00 db1 kernel: {OOMD}",
    f"Nov 14 21:00:00 db1 kernel: {LMKD}",
    "Nov 14 21:00:00 db1 systemd[1]: a.scope: systemd-oomd killed 3 process(es) in this unit.",
    f"[  100.000000] {SENDING}",
    f"ann: {SENDING}",
    f"yesterday it was {OOMD}",
    f"{OOMD}, which I do not understand",
    f"<14>[  100.000000] {DRIVER}",
    f"user  :warn  : [  100.000000] {DRIVER}",
    f"12,1000,100000000,-;{DRIVER}",
    f"<14>[  100.000000] {KILLED}",
    f"user  :warn  : [  100.000000] {KILLED}",
    f"{ANDROID} SomeApp : {LMKD}",
    f"I/SomeApp ( 4000): lowmemorykiller: {LMKD}",
    f"{ANDROID} lowmemorykiller: lmkd data connection established",
    f"{ANDROID} lowmemorykiller: select 'web' (4711), adj 9, size 5, to kill",
    "[  100.000000] lowmemorykiller: select 4711 (web), adj 12, size 5000, to kill",
    "[  100.000000] HPA: Killing 'web' (4711), adj 1000 freed 20784kB",
    f"{ANDROID} ActivityManager: Killing 4711:com.example.web/u0a117 (adj 900): empty",
    json.dumps({"message": SENDING, "ident": "bot"}),
    json.dumps({"message": f"Nov 14 21:00:00 db1 bot[1]: {OOMD}"}),
    json.dumps({"MESSAGE": OOMD, "SYSLOG_IDENTIFIER": "systemd-oomd", **FOREIGN_UNIT}),
    json.dumps({"MESSAGE": SENDING, **HOOK}),
    json.dumps({"log": f"{SENDING}\n", "stream": "stderr"}),
]


@pytest.mark.parametrize("line", NO_KILLS)
def test_other_text_is_no_kill(line: str) -> None:
    assert replay([line]) == []
    assert replay(["Nov 14 21:00:00 db1 kernel: usb 1-1: new device", line]) == []


@pytest.mark.parametrize(
    "message",
    [
        "dryrun, not actually sending any signal",
        "kill failed: Operation not permitted",
        "kill failed: No such process",
    ],
)
def test_a_signal_that_was_not_sent_is_no_kill(message: str) -> None:
    """Of another host it says nothing, nor behind another message."""
    other = "Nov 14 21:00:00 db1 cron[1]: (root) CMD (true)"
    lines = [earlyoom(LOW), earlyoom(SENDING), other, earlyoom(message)]
    assert replay(lines) == []
    assert len(replay([earlyoom(SENDING), earlyoom(message, host="db2")])) == 1
    assert len(replay([earlyoom(SENDING), earlyoom("process 4711 exited"), earlyoom(message)])) == 1


def test_systemd_oomd_that_only_simulates_kills_nothing() -> None:
    rule = f"Rule 'low' conditions met for cgroup {PRESSED} (lasting 1s), taking action kill-all"
    lines = [
        f"Nov 14 21:00:00 db1 systemd-oomd[7]: {text}"
        for text in (rule, f"oomd dry-run: Would have tried to kill {PRESSED}")
    ]
    assert replay(lines) == []


@pytest.mark.parametrize("message", [BY_KERNEL, "Invoking oom killer: done"])
@pytest.mark.parametrize("before", [True, False])
def test_a_kill_that_earlyoom_had_the_kernel_choose_is_one_event(
    message: str, *, before: bool
) -> None:
    """Whichever of the two is logged first."""
    kernel, daemon = syslog_lines(SYSRQ), [earlyoom(LOW), earlyoom(message, 1)]
    (kill,) = replay([*daemon, *kernel] if before else [daemon[0], *kernel, daemon[1]])
    assert isinstance(kill, OomKill)
    assert kill.killer is not None
    assert (kill.killer.name, kill.killer.limit) == ("earlyoom", 10.0)
    assert kill.killer.rule == "kernel OOM killer (sysrq f)"
    assert roundtrip(kill) == kill


def test_other_kills_of_the_kernel_are_its_own() -> None:
    """One without sysrq, of another host, of another time, and a second one."""
    request = [earlyoom(LOW), earlyoom(BY_KERNEL)]
    late = syslog_lines(SYSRQ, time="Nov 14 21:02:00")
    for kernel in (
        syslog_lines([*REPORT, KILLED]),
        syslog_lines(SYSRQ, host="db2"),
        late,
    ):
        (kill,) = replay([*request, *kernel])
        assert isinstance(kill, OomKill)
        assert kill.killer is None
    kills = replay([*request, *syslog_lines(SYSRQ), *late])
    assert [bool(kill.killer) for kill in kills if isinstance(kill, OomKill)] == [True, False]
    assert replay(request) == []


@pytest.mark.parametrize(
    ("line", "source"),
    [
        (earlyoom(SENDING), TEXT_FILE),
        (f"> {earlyoom(SENDING)}", TEXT_FILE),
        (f"web-1  | {earlyoom(SENDING)}", UNVERIFIED),
        (SENDING, UNVERIFIED),
        (OOMD, UNVERIFIED),
        (f"11-14 21:00:00.123   710   710 I lowmemorykiller: {LMKD}", UNVERIFIED),
        (f"11-14 21:00:00.123     0     0 I {DRIVER}", TEXT_FILE),
        (json.dumps({"message": SENDING, "ident": "earlyoom"}), UNVERIFIED),
        (
            json.dumps(
                {"MESSAGE": SENDING, "_TRANSPORT": "stdout", "_SYSTEMD_UNIT": "earlyoom.service"}
            ),
            JOURNAL,
        ),
    ],
)
def test_the_proof_of_a_line_is_said(line: str, source: str) -> None:
    (kill,) = replay([line])
    assert isinstance(kill, UserspaceKill)
    assert kill.provenance is not None
    assert kill.provenance.source == source
    found = replay([line], is_named=False)
    assert source != UNVERIFIED or found == []


@pytest.mark.parametrize("form", DAEMON_FORMATS, ids=lambda form: form.name)
def test_a_kill_is_sent_once_from_several_logs(form: DaemonFormat) -> None:
    """Of one log twice, and of two producers that keep the same second."""
    producers = DAEMON_PRODUCERS[form.producers]
    names = {
        "syslog": ("syslog", "journalctl"),
        "talos": ("dmesg", "dmesg -x"),
        "driver": ("dmesg", "/dev/kmsg"),
        "logcat": ("logcat", "logcat -v time"),
    }[form.producers]
    deduplicator = Deduplicator()
    events = [
        event
        for name in (names[0], *names)
        for event in replay(producers[name](form.program, form.messages))
    ]
    assert len(events) == 3
    assert [deduplicator.add(event) for event in events] == [True, False, False]
    for event in events:
        assert roundtrip(event) == event


def test_kills_of_kernel_and_daemon_are_in_the_order_of_the_log() -> None:
    lines = [earlyoom(SENDING), *syslog_lines([*REPORT, KILLED]), earlyoom("process 4711 exited")]
    assert {type(event) for event in replay(lines)} == {OomKill, UserspaceKill}
    assert len(replay(lines)) == 2


def test_daemons_of_many_hosts_need_a_bounded_memory() -> None:
    lines = [earlyoom(SENDING, host=f"db{number}") for number in range(300)]
    assert len(replay(lines)) == 300


def test_a_name_forges_no_other_process() -> None:
    """The author of a package or a program chooses its name."""
    name = "a' (1), uid 0, oom_score_adj 0 to free 1kB rss, 0kB swap; reason: x"
    line = (
        f"11-14 21:00:00.123   710   710 I lowmemorykiller: {LMKD.replace('com.example.web', name)}"
    )
    (kill,) = replay([line])
    assert isinstance(kill, UserspaceKill)
    assert kill.victim is not None
    assert kill.victim.tgid == 4711


def test_lines_of_the_driver_among_those_of_a_report() -> None:
    lines = [DRIVER, "   to free 20784kB on behalf of 'kswapd0' (56) because", *REPORT, KILLED]
    assert {type(event) for event in replay(dmesg_lines(lines))} == {OomKill, UserspaceKill}
