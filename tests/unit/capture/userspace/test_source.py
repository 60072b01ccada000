"""What the killers of user space write of a kill, and what becomes of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from otel_oom.capture.userspace.daemons import EARLYOOM, OOMD, SYSTEMD_OOMD, installed_daemons
from otel_oom.capture.userspace.messages import ParsedKill, parse_message
from otel_oom.enrich.event import enrich_userspace_kill
from otel_oom.linux.systemd.journal_cursor import JournalCursor
from otel_oom.model.events import UserspaceKill, VictimExit
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import Capture, Memcg, Task, UserspaceOomDaemon
from otel_oom.otlp import semconv
from otel_oom.otlp.userspace_kill import userspace_attributes, userspace_body, userspace_record
from otel_oom.store import Store
from tests.testlib.samples.events import HOST, KILL, roundtrip

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

FORMS: dict[str, tuple[str, str, ParsedKill]] = {
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
            victim=Task(4711, uid=1000, score_adj=-300, comm='a": badness 1'),
            resident=12 * MIB,
            completed=False,
        ),
    ),
    "earlyoom 1.9, cut off, of one that it would rather have spared": (
        EARLYOOM,
        (
            'sending SIGTERM to process 4711 uid 0 "hog": oom_score -9, oom_score_adj 0, '
            'VmRSS -9 MiB, cmdline "hog --with'
        ),
        ParsedKill(AVAILABLE, victim=Task(4711, uid=0, score_adj=0, comm="hog"), completed=False),
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


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_told(form: str) -> None:
    """Each form of each killer, from its sources, with all that it says."""
    unit, message, told = FORMS[form]
    assert parse_message(unit, message) == told


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
        ("sshd.service", FORMS["systemd-oomd 252, pressure"][1]),
        (EARLYOOM, ""),
    ],
)
def test_what_only_resembles_a_kill_is_none(unit: str, message: str) -> None:
    """What is only considered, pretended or tried, and whatever another unit says."""
    assert parse_message(unit, message) is None


def kill(form: str, **more: Any) -> UserspaceKill:  # noqa: ANN401  any field
    """The event of a form."""
    _, message, told = FORMS[form]
    fields: dict[str, Any] = {
        "boot_id": "0b0f5c2e-1111-2222-3333-444455556666",
        "boottime_ns": 5_000_000_000,
        "time_unix_ns": 1_700_000_000_000_000_000,
        "trigger": None,
        "capture": Capture("journal", "systemd-journald", None, 4_999_000),
        "killer": told.killer,
        "victim": told.victim,
        "memcg": Memcg(None, told.path) if told.path else None,
        "resident": told.resident,
        "usage": told.usage,
        "completed": told.completed,
        "original": message,
    }
    return UserspaceKill(**{**fields, **more})


def test_an_event_outlasts_the_journal() -> None:
    """Out of its JSON it is the same, with the same names."""
    for form in FORMS:
        event = kill(form)
        again = roundtrip(event)
        assert again == event
        assert (again.uid, again.trace_id) == (event.uid, event.trace_id)


def test_a_name_is_of_the_entry_alone() -> None:
    """Read at another time, by another clock, with more or less of /proc, it is the same kill."""
    one = kill("earlyoom 1.7")
    seen = Task(4711, ppid=1, uid=1000, comm="Web Content", start_boottime_ns=1)
    other = kill(
        "earlyoom 1.7", boottime_ns=1, time_unix_ns=2, victim=seen, memcg=Memcg(None, "/a")
    )
    assert other.uid == one.uid
    later = Capture("journal", "systemd-journald", None, 5_000_000)
    assert kill("earlyoom 1.7", capture=later).uid != one.uid
    assert kill("earlyoom 1.9, with quotes in both", capture=later).uid != one.uid


def test_the_kernel_does_not_count_it() -> None:
    """Reconciliation leaves it out."""
    assert not kill("earlyoom 1.7").counted


def test_a_killed_cgroup_is_the_resource_and_no_process() -> None:
    """The unit is the service; what the killer found stands beside; no pid is made up."""
    told = enrich_userspace_kill(
        kill("systemd-oomd 252, pressure"), Snapshot(process_found=False), 0, HOST
    )
    attributes = userspace_attributes(told)
    assert told.resource["service.name"] == "editor"
    assert not [name for name in attributes if name.startswith("process.")]
    assert {name: attributes[name] for name in attributes if name.startswith("oom.killer.")} == {
        "oom.killer.name": "systemd-oomd",
        "oom.killer.signal": "SIGKILL",
        "oom.killer.reason": "memory_pressure",
        "oom.killer.limit": 50.0,
        "oom.killer.pressure": 60.13,
        "oom.killer.memcg.path": USER,
    }
    assert attributes["log.record.original"] == FORMS["systemd-oomd 252, pressure"][1]
    assert attributes[semconv.OUTCOME] == "killed"


def test_earlyoom_says_its_limit_a_line_before() -> None:
    """That line is of the kill; another is not."""
    _, message, told = FORMS["earlyoom 1.7"]
    low = "low memory! at or below SIGTERM limits: mem  9.50%, swap 10.00%"
    killer = replace(told.killer, limit=9.5)
    assert parse_message(EARLYOOM, message, low) == dataclasses.replace(told, killer=killer)
    assert parse_message(EARLYOOM, message, "mem avail: 9.50%") == told
    assert parse_message(EARLYOOM, low, message) is None


def test_a_signal_is_no_death() -> None:
    """What earlyoom tells is that it sends SIGTERM, and no more is told."""
    told = enrich_userspace_kill(kill("earlyoom 1.7"), Snapshot(process_found=False), 0, HOST)
    attributes = userspace_attributes(told)
    assert attributes["process.pid"] == 4711
    assert attributes["oom.victim.memory.resident"] == 1843 * MIB
    assert attributes[semconv.OUTCOME] == "signalled"
    assert userspace_body(told) == (
        "earlyoom sent SIGTERM to Web Content (pid 4711), which used 1.8 GiB of memory, because "
        "the available memory of the host was below its limit."
    )


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_same_event_with_the_names_of_the_registry(form: str) -> None:
    """Each form is an ``oom.kill``, with no attribute that the registry's event has not."""
    registry = Path(semconv.__file__).with_name("registry.yaml")
    groups = {
        group["id"]: group
        for group in yaml.safe_load(registry.read_text(encoding="utf-8"))["groups"]
    }
    registered = {attribute["ref"] for attribute in groups["event.oom.kill"]["attributes"]}
    told = enrich_userspace_kill(kill(form), Snapshot(process_found=False), 0, HOST)
    record = userspace_record(told).log_record
    assert record.event_name == "oom.kill"
    assert set(record.attributes or {}) <= registered
    assert "{" not in str(record.body)


def test_a_killer_is_there_by_its_unit(tmp_path: Path) -> None:
    """Wherever systemd looks for units, and whether it runs or not."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "earlyoom.service").touch()
    (tmp_path / "b" / "ssh.service").touch()
    assert installed_daemons([tmp_path / "a", tmp_path / "b"]) == ("earlyoom.service",)


def test_a_position_outlasts_the_process(tmp_path: Path) -> None:
    """It is there at the next start; what is no cursor is none, nor is a symbolic link."""
    JournalCursor(tmp_path).save("s=1;i=2")
    assert JournalCursor(tmp_path).cursor == "s=1;i=2"
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("two words\n", encoding="ascii")
    assert JournalCursor(tmp_path).cursor is None
    file.unlink()
    file.symlink_to("/proc/self/comm")
    assert JournalCursor(tmp_path).cursor is None


def test_two_decisions_on_one_process_are_two_events(tmp_path: Path) -> None:
    """One by earlyoom and one by the kernel: each is told, and the kernel's count has one.

    Each is told once, and the one by user space is none that the kernel's log could tell of.
    """
    by_kernel = replace(KILL, victim=replace(KILL.victim, tgid=4711))
    by_earlyoom = kill("earlyoom 1.7", boot_id=KILL.boot_id, victim=by_kernel.victim)
    with Store(tmp_path) as store:
        recorded = [
            store.insert(event, Snapshot(process_found=False))
            for event in (by_earlyoom, by_kernel, by_earlyoom, by_kernel)
        ]
        assert recorded == [True, True, False, False]
        assert store.boot_tally(KILL.boot_id).recorded == 1
        assert [one.tgid for one in store.stored_kills(KILL.boot_id, 9)] == [4711]
        # The end of the process is that of the kernel's kill, whose span waits for it.
        end = VictimExit(4711, KILL.victim.start_boottime_ns, KILL.boottime_ns + 1, 9)
        assert store.add_exit(KILL.boot_id, end)
        rows = store.pending_events(9, KILL.boot_id, 0)
        # Whoever looks for the process finds both, the last of them first.
        found = store.history.find_by_pid(4711)
        assert [row.uid for row in store.history.rows(found)] == [by_kernel.uid, by_earlyoom.uid]
        store.insert(kill("oomd 0.5, its own output"), Snapshot(process_found=False))
        (newest,) = store.history.find_newest_kill()
        assert newest > max(found)
    assert [(row.event, row.exit) for row in rows] == [(by_earlyoom, None), (by_kernel, end)]


@pytest.mark.parametrize(
    ("unit", "part"),
    [
        (EARLYOOM, 'sending SIGTERM to process 1 uid 0 "a": badness 1, VmRSS 1 MiB, cmdline "'),
        (SYSTEMD_OOMD, "Killed / due to memory pressure for / being 1% > 1% for > "),
        (OOMD, "1.00 1.00 1.00 a 1 ruleset:[a] detectorgroup:[b] killer:x v2 "),
    ],
)
@pytest.mark.parametrize("size", [9_000, 48_000])
def test_whatever_is_in_a_name_or_a_path_is_read(unit: str, part: str, size: int) -> None:
    """It ends, and soon, at whatever length the journal has a line."""
    assert parse_message(unit, part * (size // len(part)) + "x", "") is None or unit == EARLYOOM
