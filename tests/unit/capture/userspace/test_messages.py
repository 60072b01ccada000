"""Messages of userspace OOM daemons about kills, and the events that they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from otel_oom.capture.userspace.daemons import EARLYOOM, OOMD, SYSTEMD_OOMD, installed_daemons
from otel_oom.capture.userspace.messages import ParsedKill, parse_message
from otel_oom.enrich.event import enrich_userspace_kill
from otel_oom.linux.systemd.journal_cursor import JournalCursor
from otel_oom.model.events import UserspaceKill, VictimExit
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import (
    Capture,
    Memcg,
    OomTask,
    Task,
    TaskList,
    UserspaceOomDaemon,
)
from otel_oom.otlp import semconv
from otel_oom.otlp.event import build_event
from otel_oom.otlp.kill_counts import count_kills
from otel_oom.otlp.userspace_kill import userspace_attributes, userspace_body
from otel_oom.store import Store
from tests.testlib.samples.events import HOST, KILL, roundtrip
from tests.testlib.sent_telemetry import find_faults

MIB = 1 << 20

USER = "/user.slice/user-1000.slice/user@1000.service"
MOUNT = "/sys/fs/cgroup"

PRESSED = UserspaceOomDaemon(
    "systemd-oomd",
    signal="SIGKILL",
    reason="memory_pressure",
    limit=50.0,
    pressure=60.13,
    memcg=USER,
)
USED = UserspaceOomDaemon("systemd-oomd", signal="SIGKILL", reason="memory_used", limit=90.0)
AVAILABLE = UserspaceOomDaemon("earlyoom", signal="SIGTERM", reason="memory_available")

FORMATS: dict[str, tuple[str, str, ParsedKill]] = {
    "systemd-oomd 252, pressure": (
        SYSTEMD_OOMD,
        (
            f"Killed {USER}/app.slice/editor.service due to memory pressure for {USER} being "
            "60.13% > 50.00% for > 20s with reclaim activity"
        ),
        ParsedKill(PRESSED, path=f"{USER}/app.slice/editor.service"),
    ),
    "systemd-oomd 248, with the mount in its paths": (
        SYSTEMD_OOMD,
        (
            f"Killed {MOUNT}/system.slice/x y.service due to memory pressure for {MOUNT}{USER} "
            "being 60.13% > 50.00% for > 1min 30s with reclaim activity"
        ),
        ParsedKill(PRESSED, path="/system.slice/x y.service"),
    ),
    "systemd-oomd 252, memory and swap": (
        SYSTEMD_OOMD,
        (
            "Killed /a.slice/x.service due to memory used (15500000000) / total (16000000000) "
            "and swap used (7800000000) / total (8000000000) being more than 90.00%"
        ),
        ParsedKill(USED, path="/a.slice/x.service"),
    ),
    "systemd-oomd 248, swap": (
        SYSTEMD_OOMD,
        (
            "Killed /system.slice/x.service due to swap used (7800000000) / total (8000000000) "
            "being more than 90.00%"
        ),
        ParsedKill(
            UserspaceOomDaemon("systemd-oomd", signal="SIGKILL", reason="swap_used", limit=90.0),
            path="/system.slice/x.service",
        ),
    ),
    "systemd-oomd 260, marked": (
        SYSTEMD_OOMD,
        (
            "Marked /system.slice/x.service for killing due to memory used (15500000000) / "
            "total (16000000000) and swap used (7800000000) / total (8000000000) being more "
            "than 90.00%"
        ),
        ParsedKill(USED, path="/system.slice/x.service", completed=False),
    ),
    "earlyoom 1.7": (
        EARLYOOM,
        'sending SIGTERM to process 4711 uid 1000 "Web Content": badness 312, VmRSS 1843 MiB',
        ParsedKill(
            AVAILABLE,
            victim=Task(4711, uid=1000, comm="Web Content"),
            resident=1843 * MIB,
            completed=False,
        ),
    ),
    "earlyoom 1.9, with quotes in both": (
        EARLYOOM,
        (
            'sending SIGKILL to process 4711 uid 1000 "a": badness 1": oom_score 900, '
            'oom_score_adj -300, VmRSS 12 MiB, cmdline "a "b""'
        ),
        ParsedKill(
            UserspaceOomDaemon("earlyoom", signal="SIGKILL", reason="memory_available"),
            victim=Task(4711, uid=1000, score_adj=-300, comm='a": badness 1', command=("a", '"b"')),
            resident=12 * MIB,
            completed=False,
        ),
    ),
    "earlyoom 1.9, truncated, of a process to avoid": (
        EARLYOOM,
        (
            'sending SIGTERM to process 4711 uid 0 "hog": oom_score -9, oom_score_adj 0, '
            'VmRSS -9 MiB, cmdline "hog --with'
        ),
        ParsedKill(
            AVAILABLE,
            victim=Task(4711, uid=0, score_adj=0, comm="hog", command=("hog", "--with")),
            completed=False,
        ),
    ),
    "earlyoom 1.9, cut at a newline in the name": (
        EARLYOOM,
        r'sending SIGTERM to process 4711 uid 1000 "\xff\xfe": badness',
        ParsedKill(
            AVAILABLE,
            victim=Task(4711, uid=1000, comm=r'\xff\xfe": badness'),
            completed=False,
        ),
    ),
    "earlyoom 1.3, without a uid": (
        EARLYOOM,
        'sending SIGTERM to process 4711 "hog": badness 3, VmRSS 12 MiB',
        ParsedKill(AVAILABLE, victim=Task(4711, comm="hog"), resident=12 * MIB, completed=False),
    ),
    "earlyoom 1.2": (
        EARLYOOM,
        "Killing process 'hog' with signal 15, pid: 4711, badness: 3, VmRSS: 12 MiB",
        ParsedKill(AVAILABLE, victim=Task(4711, comm="hog"), resident=12 * MIB, completed=False),
    ),
    "oomd 0.5, its own output": (
        OOMD,
        (
            "[../src/oomd/Log.cpp:115] 5.02 3.61 1.20 workload.slice/big.service 33554432 "
            "ruleset:[too large] detectorgroup:[a, b] killer:kill_by_memory_size_or_growth v2"
        ),
        ParsedKill(
            UserspaceOomDaemon(
                "oomd",
                signal="SIGKILL",
                pressure=5.02,
                memcg="/workload.slice/big.service",
                rule="too large (kill_by_memory_size_or_growth)",
            ),
            path="/workload.slice/big.service",
            usage=33554432,
        ),
    ),
}


@pytest.mark.parametrize("message_format", FORMATS)
def test_every_message_format_is_parsed(message_format: str) -> None:
    unit, message, parsed = FORMATS[message_format]
    assert parse_message(unit, message) == replace(parsed, original=without_command(message))


def without_command(message: str) -> str:
    """Return a message up to the command line of its victim."""
    return message.partition(", cmdline")[0]


MYSQL = (
    'sending SIGTERM to process 4711 uid 0 "mysql": oom_score 9, oom_score_adj 0, VmRSS 9 MiB, '
    'cmdline "mysql -phunter2 --host db1"'
)


def test_command_line_is_not_part_of_the_event() -> None:
    """Only of the victim, where it is redacted."""
    parsed = parse_message(EARLYOOM, MYSQL)
    assert parsed
    assert parsed.victim
    assert "hunter2" not in parsed.original
    kill = userspace_kill("earlyoom 1.7", victim=parsed.victim, original=parsed.original)
    attributes = userspace_attributes(
        enrich_userspace_kill(kill, Snapshot(process_found=False), 0, HOST)
    )
    assert attributes["process.command_args"] == ("mysql", "-p***", "--host", "db1")
    assert "hunter2" not in str(attributes)


@pytest.mark.parametrize("message_format", FORMATS)
def test_a_message_of_many_lines_hides_no_other_kill(message_format: str) -> None:
    """What follows a newline, in one entry, is never a kill of its own."""
    unit, message, _ = FORMATS[message_format]
    assert parse_message(unit, f"a\n{message}") is None
    parsed = parse_message(unit, f"{MYSQL}\n{message}")
    assert parsed is None or (unit == EARLYOOM and parsed.victim and parsed.victim.comm == "mysql")


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (
            SYSTEMD_OOMD,
            "oomd dry-run: Would have tried to kill /a.slice/x.service with recurse=true",
        ),
        (SYSTEMD_OOMD, "Considered 3 cgroups for killing, top candidates were:"),
        (SYSTEMD_OOMD, "Memory pressure for /a is 60.13% > 50.00% for > 20s with reclaim activity"),
        (SYSTEMD_OOMD, "Failed to kill any cgroups under /a based on pressure: No such file"),
        (EARLYOOM, "low memory! at or below SIGTERM limits: mem 10.00%, swap 10.00%"),
        (EARLYOOM, "sending SIGTERM when mem <= 10.00% and swap <= 10.00%,"),
        (EARLYOOM, 'sending 0 (no-op signal) to process 1 uid 0 "a": badness 1, VmRSS 1 MiB'),
        (EARLYOOM, 'sending SIGTERM to process 0 uid 0 "a": badness 1, VmRSS 1 MiB'),
        (EARLYOOM, "process exited after 0.1 seconds"),
        (EARLYOOM, f'sending SIGTERM to process {"9" * 40} uid 0 "a": badness 1, VmRSS 1 MiB'),
        (OOMD, "1.00 1.00 1.00 a.slice 1 ruleset:[a] detectorgroup:[b] killer:(dry)kill_by_x v2"),
        (OOMD, "Trying to kill /sys/fs/cgroup/a.slice"),
        ("sshd.service", FORMATS["systemd-oomd 252, pressure"][1]),
        (EARLYOOM, ""),
    ],
)
def test_other_messages_are_no_kills(unit: str, message: str) -> None:
    assert parse_message(unit, message) is None


def userspace_kill(message_format: str, **more: Any) -> UserspaceKill:  # noqa: ANN401  any field
    """Return the event of a message format."""
    _, message, parsed = FORMATS[message_format]
    fields: dict[str, Any] = {
        "boot_id": "0b0f5c2e-1111-2222-3333-444455556666",
        "boottime_ns": 5_000_000_000,
        "time_unix_ns": 1_700_000_000_000_000_000,
        "trigger": None,
        "capture": Capture("journal", "systemd-journald", None, 4_999_000),
        "killer": parsed.killer,
        "victim": parsed.victim,
        "memcg": Memcg(None, parsed.path) if parsed.path else None,
        "resident": parsed.resident,
        "usage": parsed.usage,
        "completed": parsed.completed,
        "original": without_command(message),
    }
    return UserspaceKill(**{**fields, **more})


def test_event_survives_the_store() -> None:
    for message_format in FORMATS:
        event = userspace_kill(message_format)
        restored = roundtrip(event)
        assert restored == event
        assert (restored.uid, restored.trace_id) == (event.uid, event.trace_id)


def test_uid_is_that_of_the_journal_entry() -> None:
    """Another clock, and more or less of /proc, does not change it."""
    one = userspace_kill("earlyoom 1.7")
    victim = Task(4711, ppid=1, uid=1000, comm="Web Content", start_boottime_ns=1)
    other = userspace_kill(
        "earlyoom 1.7", boottime_ns=1, time_unix_ns=2, victim=victim, memcg=Memcg(None, "/a")
    )
    assert other.uid == one.uid
    later = Capture("journal", "systemd-journald", None, 5_000_000)
    assert userspace_kill("earlyoom 1.7", capture=later).uid != one.uid
    assert userspace_kill("earlyoom 1.9, with quotes in both", capture=later).uid != one.uid


def test_kernel_does_not_count_userspace_kills() -> None:
    assert not userspace_kill("earlyoom 1.7").counted


def test_killed_cgroup_is_the_resource_without_a_process() -> None:
    enriched = enrich_userspace_kill(
        userspace_kill("systemd-oomd 252, pressure"), Snapshot(process_found=False), 0, HOST
    )
    attributes = userspace_attributes(enriched)
    assert enriched.resource["service.name"] == "editor"
    assert not [name for name in attributes if name.startswith("process.")]
    assert {name: attributes[name] for name in attributes if name.startswith("oom.killer.")} == {
        "oom.killer.name": "systemd-oomd",
        "oom.killer.verified": False,
        "oom.killer.signal": "SIGKILL",
        "oom.killer.reason": "memory_pressure",
        "oom.killer.limit": 50.0,
        "oom.killer.pressure": 60.13,
        "oom.killer.memcg.path": USER,
    }
    assert attributes["log.record.original"] == FORMATS["systemd-oomd 252, pressure"][1]
    assert attributes[semconv.OUTCOME] == "killed"


def test_limit_of_earlyoom_is_in_the_message_before() -> None:
    _, message, parsed = FORMATS["earlyoom 1.7"]
    low = "low memory! at or below SIGTERM limits: mem  9.50%, swap 10.00%"
    parsed = replace(parsed, original=message)
    killer = replace(parsed.killer, limit=9.5)
    assert parse_message(EARLYOOM, message, low) == replace(parsed, killer=killer)
    assert parse_message(EARLYOOM, message, "mem avail: 9.50%") == parsed
    assert parse_message(EARLYOOM, low, message) is None


def test_signalled_process_is_not_reported_as_killed() -> None:
    enriched = enrich_userspace_kill(
        userspace_kill("earlyoom 1.7"), Snapshot(process_found=False), 0, HOST
    )
    attributes = userspace_attributes(enriched)
    assert attributes["process.pid"] == 4711
    assert attributes["oom.victim.memory.resident"] == 1843 * MIB
    assert attributes[semconv.OUTCOME] == "signalled"
    assert userspace_body(enriched) == (
        "earlyoom sent SIGTERM to Web Content (pid 4711), which used 1.8 GiB of memory, because "
        "the available memory of the host was below its limit. This is known from its log message "
        "alone."
    )


EXITED = VictimExit(4711, 1, 5_000_000_001, exit_code=15)


@pytest.mark.parametrize(
    ("exit_", "verified"),
    [
        (EXITED, True),
        (replace(EXITED, exit_code=9 | 0x80), True),
        (replace(EXITED, exit_code=None), True),
        # It ended by itself, which a forged message can await; or long after it.
        (replace(EXITED, exit_code=0), False),
        (replace(EXITED, exit_code=1 << 8), False),
        (replace(EXITED, exit_code=11), False),
        (replace(EXITED, boottime_ns=15_000_000_001), False),
        (None, False),
    ],
)
def test_only_a_death_by_the_signal_verifies_a_kill(
    exit_: VictimExit | None,
    *,
    verified: bool,
) -> None:
    kill, snapshot = userspace_kill("earlyoom 1.7"), Snapshot(process_found=False)
    enriched = enrich_userspace_kill(kill, snapshot, 0, HOST, exit_)
    attributes = userspace_attributes(enriched)
    assert attributes["oom.killer.verified"] is verified
    assert attributes[semconv.OUTCOME] == ("killed" if verified else "signalled")
    assert ("message alone" in userspace_body(enriched)) is not verified
    kills = count_kills(enriched)
    assert kills
    assert f'"oom.killer.verified": {"true" if verified else "false"}' in kills.label


@pytest.mark.parametrize("message_format", FORMATS)
def test_attributes_are_those_of_the_registry(message_format: str) -> None:
    enriched = enrich_userspace_kill(
        userspace_kill(message_format), Snapshot(process_found=False), 0, HOST
    )
    event = build_event(enriched)
    readable, span = event.to_readable_record(), event.to_span()
    assert span is not None
    record = readable.log_record
    assert record.event_name == "oom.kill"
    for request in (
        encode_logs([readable]),
        encode_spans([span]),
    ):
        assert list(find_faults(request)) == []
    assert "{" not in str(record.body)


def test_processes_of_a_killed_cgroup_are_listed() -> None:
    """Each as one that died, the largest first, in flat attributes too."""
    tasks = (OomTask(11, "php-fpm", 5 * MIB, 0, None), OomTask(10, "nginx: m", MIB, None, None))
    kill = userspace_kill(
        "systemd-oomd 260, marked", tasks=TaskList("/a", 4_500_000_000, 2, 0, tasks)
    )
    enriched = enrich_userspace_kill(roundtrip(kill), Snapshot(process_found=False), 0, HOST)
    assert list(find_faults(encode_logs([build_event(enriched).to_readable_record()]))) == []
    attributes = userspace_attributes(enriched)
    assert attributes["oom.tasks.largest"] == (
        "pid=11 comm=php-fpm resident=5242880 killed=true",
        'pid=10 comm="nginx: m" resident=1048576 killed=true',
    )
    assert attributes["oom.largest_task.pid"] == 11
    assert (attributes["oom.tasks.count"], attributes["oom.tasks.delay"]) == (2, -0.5)


def test_daemon_is_found_by_its_unit_file(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "earlyoom.service").touch()
    (tmp_path / "b" / "ssh.service").touch()
    assert installed_daemons([tmp_path / "a", tmp_path / "b"]) == ("earlyoom.service",)


def test_saved_cursor_is_read_at_the_next_start(tmp_path: Path) -> None:
    """Neither another text nor a symbolic link is a cursor."""
    JournalCursor(tmp_path).save("s=1;i=2")
    assert JournalCursor(tmp_path).cursor == "s=1;i=2"
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("two words\n", encoding="ascii")
    assert JournalCursor(tmp_path).cursor is None
    file.unlink()
    file.symlink_to("/proc/self/comm")
    assert JournalCursor(tmp_path).cursor is None


def test_kills_by_daemon_and_kernel_are_two_events(tmp_path: Path) -> None:
    """The kernel counts only its own."""
    by_kernel = replace(KILL, victim=replace(KILL.victim, tgid=4711))
    by_earlyoom = userspace_kill("earlyoom 1.7", boot_id=KILL.boot_id, victim=by_kernel.victim)
    with Store(tmp_path) as store:
        recorded = [
            store.insert(event, Snapshot(process_found=False))
            for event in (by_earlyoom, by_kernel, by_earlyoom, by_kernel)
        ]
        assert recorded == [True, True, False, False]
        assert store.tally.read(KILL.boot_id).recorded == 1
        assert [one.tgid for one in store.tally.stored_kills(KILL.boot_id, 9)] == [4711]
        # An exit of the kernel side belongs to the kill by the kernel, whose span waits for it.
        end = VictimExit(4711, KILL.victim.start_boottime_ns, KILL.boottime_ns + 1, 9)
        assert store.add_exit(KILL.boot_id, end)
        rows = store.pending_events(9, KILL.boot_id, 0)
        assert [(row.event, row.exit) for row in rows] == [(by_kernel, end)]
        # The other one waits for an exit of its own, but not for ever.
        rows = store.pending_events(9, KILL.boot_id, by_earlyoom.boottime_ns + 1)
        assert [row.exit_overdue for row in rows] == [True, True]
        verifying = replace(end, kill_uid=by_earlyoom.uid)
        assert store.add_exit(KILL.boot_id, verifying)
        assert not store.add_exit(KILL.boot_id, verifying)
        rows = store.pending_events(9, KILL.boot_id, 0)
        # Both are found by the pid, the last one first.
        found = store.history.find_by_pid(4711)
        assert [row.uid for row in store.history.rows(found)] == [by_kernel.uid, by_earlyoom.uid]
        store.insert(userspace_kill("oomd 0.5, its own output"), Snapshot(process_found=False))
        (newest,) = store.history.find_newest_kill()
        assert newest > max(found)
    exits = {row.event.uid: row.exit for row in rows}
    assert exits == {by_earlyoom.uid: verifying, by_kernel.uid: end}


@pytest.mark.parametrize(
    ("unit", "part"),
    [
        (EARLYOOM, 'sending SIGTERM to process 1 uid 0 "a": badness 1, VmRSS 1 MiB, cmdline "'),
        (SYSTEMD_OOMD, "Killed / due to memory pressure for / being 1% > 1% for > "),
        (OOMD, "1.00 1.00 1.00 a 1 ruleset:[a] detectorgroup:[b] killer:x v2 "),
    ],
)
@pytest.mark.parametrize("size", [9_000, 48_000])
def test_hostile_messages_are_parsed_in_bounded_time(unit: str, part: str, size: int) -> None:
    assert parse_message(unit, part * (size // len(part)) + "x", "") is None or unit == EARLYOOM
