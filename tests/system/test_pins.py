"""Pins: the kernel side records without an agent, and no kill is lost between two."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_oom.capture.attach_thread import AttachThread
from otel_oom.capture.bpf import loader, pinning
from otel_oom.capture.bpf.loader import VICTIM_HOOKS
from otel_oom.capture.bpf.pin_set import remove
from otel_oom.capture.bpf.records import WIRE_VERSION, Header
from otel_oom.capture.bpf.ring_source import RING_BYTES
from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.commands.demo.receiver import Receiver
from otel_oom.linux import procfs
from otel_oom.model.events import CapturedEvent, OomKill, VictimExit
from tests.testlib.agent import AGENT_COMMAND, Agent, run_agent
from tests.testlib.command import CompletedCommand, mount_namespace, run_otel_oom
from tests.testlib.kernel.bpffs import mount_bpffs
from tests.testlib.kernel.kills import kill_many, kill_one
from tests.testlib.kernel.oracle import KernelLog, read_oom_kill_count
from tests.testlib.process import free_port
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require
from tests.testlib.servers.backend import Backend, filter_kills

pytestmark = pytest.mark.usefixtures("real_kills")

CURRENT = f"wire-{WIRE_VERSION}"
DRAIN_S = 10.0
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def pin_dir(tmp_path: Path) -> Iterator[Path]:
    """Return a pin folder that does not exist yet, in a bpffs of the test."""
    with mount_bpffs(tmp_path / "bpffs") as mounted:
        yield mounted / "otel-oom" / "v1"


def drain_exits(source: LibbpfSource, *victims: int) -> list[CapturedEvent]:
    """Return the events of ``source`` once these victims have exited."""
    events: list[CapturedEvent] = []
    deadline = time.monotonic() + DRAIN_S
    while not set(victims) <= {event.tgid for event in events if isinstance(event, VictimExit)}:
        assert time.monotonic() < deadline, events
        source.drain(events.append)
        select.select([source], [], [], 0.1)
    return events


def recovered_by_pid(events: list[CapturedEvent], *victims: int) -> list[tuple[int, bool]]:
    """Return (pid, recovered) of each kill of ``victims``, in their order."""
    kills = [event for event in events if isinstance(event, OomKill)]
    pairs = [(kill.victim.tgid, kill.capture.recovered) for kill in kills]
    return [(pid, recovered) for pid, recovered in pairs if pid in victims]


def bpftool(*words: str | Path) -> Any:  # noqa: ANN401  as it prints
    """Return what bpftool lists."""
    program = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin")
    require(program, "bpftool is missing")
    shown = subprocess.run([str(program), "-j", *words], check=True, capture_output=True)
    return json.loads(shown.stdout)


def ring_ids(pin_dir: Path) -> set[int]:
    """Return the ids of all ring buffers in ``pin_dir``."""
    paths = pin_dir.glob("*/maps/oom_ring")
    return {bpftool("map", "show", "pinned", path)["id"] for path in paths}


def count_writers(rings: set[int], expected: int) -> int:
    """Count the programs that write marks into the rings; wait until they are as ``expected``."""
    names = {name for names in VICTIM_HOOKS.values() for name in names}
    deadline = time.monotonic() + DRAIN_S
    while True:
        programs = [each for each in bpftool("prog", "show") if each.get("name") in names]
        count = sum(not rings.isdisjoint(each.get("map_ids", ())) for each in programs)
        if count <= expected or time.monotonic() > deadline:
            return count
        time.sleep(0.1)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_kills_without_an_agent_are_recovered_by_the_next(
    tmp_path: Path, pin_dir: Path, end: signal.Signals
) -> None:
    unused = f"http://127.0.0.1:{free_port()}"
    with run_agent(tmp_path, {ENDPOINT: unused}, pin_dir=pin_dir) as first:
        captured = kill_one()
        wait_for_log(first, f"pid {captured}")
        hooked = "oom_kill_process" in first.log_text()
        first.stop(end)
    with KernelLog() as log:
        missed = [kill_one() for _ in range(3)]
        logged = {line.pid: line for line in log.read_killed_lines()}
    backend = Backend()
    with Receiver(backend) as receiver:
        environ = {ENDPOINT: receiver.url}
        with run_agent(tmp_path, environ, pin_dir=pin_dir) as second:
            backend.wait_for_kills([captured, *missed], within_s=30)
            after = kill_one()
            backend.wait_for_kills([after], within_s=30)
            second.stop()
        # Delivered kills are not delivered again.
        with run_agent(tmp_path, environ, pin_dir=pin_dir) as third:
            last = kill_one()
            backend.wait_for_kills([last], within_s=30)
            third.stop()
    pids = [captured, *missed, after, last]
    for received in (filter_kills(backend.logs, pids), filter_kills(backend.spans, pids)):
        # A request whose response was lost may be repeated, under the same uid.
        assert len({each.uid for each in received}) == 6
        attributes = {each.attributes["process.pid"]: each.attributes for each in received}
        assert sorted(attributes) == sorted(pids)
        assert {pid for pid in attributes if attributes[pid].get("oom.capture.recovered")} == set(
            missed
        )
        for pid in missed:
            assert attributes[pid]["oom.victim.memory.anon"] == logged[pid].anon * 1024
            assert attributes[pid]["oom.victim.comm"] == logged[pid].comm
            assert "process.linux.cgroup" not in attributes[pid]
            assert attributes[pid].get("oom.limit.scope") == (
                "own" if hooked or is_reported(pid) else None
            )
    spans = filter_kills(backend.spans, pids)
    assert all(each.attributes["oom.victim.exited"] for each in spans)


def is_reported(pid: int) -> bool:
    """Return whether the kernel log has a report of that kill: of many it has few."""
    log = subprocess.run(["dmesg"], check=True, capture_output=True).stdout
    return re.search(rb"oom-kill:constraint=.*,pid=%d," % pid, log) is not None


def wait_for_log(running: Agent, text: str, within_s: float = 15.0) -> None:
    """Wait until the agent has logged ``text``."""
    deadline = time.monotonic() + within_s
    while text not in running.log_text():
        assert time.monotonic() < deadline, running.log_text()
        time.sleep(0.02)


def test_event_that_was_not_stored_is_read_by_the_next_source(pin_dir: Path) -> None:
    def full(_event: object) -> None:
        raise OSError("no space left on device")

    with LibbpfSource(pin_dir=pin_dir) as source:
        killed = [kill_one(), kill_one()]
        for _ in range(3):
            with pytest.raises(OSError, match="no space"):
                source.drain(full)
    with LibbpfSource(pin_dir=pin_dir) as source:
        assert recovered_by_pid(drain_exits(source, *killed), *killed) == [
            (pid, True) for pid in killed
        ]


def test_exit_after_the_agent_belongs_to_its_kill(pin_dir: Path) -> None:
    with LibbpfSource(pin_dir=pin_dir) as source:
        pid = kill_one()
        events: list[CapturedEvent] = []
        source.drain(events.append)
    with LibbpfSource(pin_dir=pin_dir) as source:
        if not any(isinstance(event, VictimExit) for event in events):
            events += drain_exits(source, pid)
    assert recovered_by_pid(events, pid) == [(pid, False)]


def test_second_agent_on_the_same_pins_is_an_error(tmp_path: Path, pin_dir: Path) -> None:
    """It does not fall back to another source."""
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}, pin_dir=pin_dir) as first:
        done = run_otel_oom("run", "--state-dir", tmp_path / "other", "--pin-dir", pin_dir)
        assert done.code == 1
        assert f"Another otel-oom already captures by the pins in {pin_dir}" in done.error_message()
        assert "--pin-dir" in done.error_message()
        assert "Stop it first" in run_otel_oom("unpin", "--pin-dir", pin_dir).error_message()
        pid = kill_one()
        wait_for_log(first, f"pid {pid}")


def test_unpin_removes_programs_and_counts_unread_records(tmp_path: Path, pin_dir: Path) -> None:
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}, pin_dir=pin_dir) as first:
        first.stop()
    ring = ring_ids(pin_dir)
    assert count_writers(ring, expected=1) == 1
    kill_one()
    done = run_otel_oom("unpin", "--pin-dir", pin_dir)
    assert done.code == 0
    match = re.fullmatch(r"(\d+) unread records were dropped\n", done.err)
    assert match is not None
    # A mark and an exit, and those of other kills on the host.
    assert int(match[1]) >= 2
    assert not pin_dir.parent.exists()
    assert count_writers(ring, expected=0) == 0
    second = run_otel_oom("unpin", "--pin-dir", pin_dir)
    assert (second.code, second.out, second.err) == (0, f"Nothing is pinned in {pin_dir}\n", "")


def test_no_pin_leaves_nothing(tmp_path: Path, pin_dir: Path) -> None:
    arguments = ("--pin-dir", str(pin_dir), "--no-pin")
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}, *arguments) as first:
        files = Path(f"/proc/{first.process.pid}/fdinfo").iterdir()
        # Some are open for a moment only.
        text = "".join(procfs.read_text(file, 8192) or "" for file in files)
        used = {int(number) for number in re.findall(r"prog_id:\t(\d+)", text)}
        assert used
        first.stop(signal.SIGKILL)
    deadline = time.monotonic() + DRAIN_S
    while not used.isdisjoint(each["id"] for each in bpftool("prog", "show")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not pin_dir.exists()


# Faults of pins that SIGKILL, another version or a person leaves.


def _other_map(pin_dir: Path) -> None:
    other = pin_dir.with_name("other")
    with LibbpfSource(RING_BYTES * 2, pin_dir=other):
        pass
    (other / CURRENT / "maps" / "oom_ring").rename(pin_dir / CURRENT / "maps" / "oom_victims")
    remove(other)


def _other_link(pin_dir: Path) -> None:
    other = pin_dir.with_name("other")
    with LibbpfSource(pin_dir=other):
        pass
    link = "links/sched_process_exit"
    (other / CURRENT / link).rename(pin_dir / CURRENT / link)
    remove(other)


def _map_in_place_of_a_link(pin_dir: Path) -> None:
    _other_map(pin_dir)
    stray = pin_dir / CURRENT / "maps" / "oom_victims"
    stray.rename(pin_dir / CURRENT / "links" / "sched_process_exit")


def _no_ring(pin_dir: Path) -> None:
    (pin_dir / CURRENT / "maps" / "oom_ring").unlink()


def _no_link(pin_dir: Path) -> None:
    (pin_dir / CURRENT / "links" / "sched_process_exit").unlink()


def _no_links(pin_dir: Path) -> None:
    folder = pin_dir / CURRENT / "links"
    for link in folder.iterdir():
        link.unlink()
    folder.rmdir()


def _unfinished_link(pin_dir: Path) -> None:
    links = pin_dir / CURRENT / "links"
    (links / "sched_process_exit").rename(links / "new")


def _folder_for_a_link(pin_dir: Path) -> None:
    (pin_dir / CURRENT / "links" / "sched_process_exit").unlink()
    (pin_dir / CURRENT / "links" / "sched_process_exit" / "deeper").mkdir(parents=True)


def _foreign_names_in_the_set(pin_dir: Path) -> None:
    (pin_dir / CURRENT / "links" / "stray").mkdir()
    (pin_dir / CURRENT / "links" / "astray").symlink_to("/etc")


def _half_made(pin_dir: Path) -> None:
    (pin_dir / CURRENT).rename(pin_dir / "making")


def _renamed(pin_dir: Path) -> None:
    (pin_dir / CURRENT).rename(pin_dir / "old-1")


def _symlink_in_place_of_the_set(pin_dir: Path) -> None:
    (pin_dir / CURRENT).rename(pin_dir / "old-1")
    (pin_dir / CURRENT).symlink_to("old-1")


def _map_in_place_of_the_set(pin_dir: Path) -> None:
    _other_map(pin_dir)
    (pin_dir / CURRENT / "maps" / "oom_victims").rename(pin_dir / "stray")
    (pin_dir / CURRENT).rename(pin_dir / "old-1")
    (pin_dir / "stray").rename(pin_dir / CURRENT)


def _empty(pin_dir: Path) -> None:
    (pin_dir / CURRENT).rename(pin_dir / "old-7")
    (pin_dir / CURRENT).mkdir()


@pytest.mark.parametrize(
    ("fault", "message", "ring_is_kept"),
    [
        (_other_map, "oom_victims is", True),
        (_other_link, "sched_process_exit wrote elsewhere", True),
        (_map_in_place_of_a_link, "are replaced", True),
        (_no_ring, "oom_ring", False),
        (_no_link, "sched_process_exit was not pinned", True),
        (_no_links, "sched_process_exit was not pinned", True),
        (_unfinished_link, "sched_process_exit was not pinned", True),
        (_folder_for_a_link, "sched_process_exit", True),
        (_foreign_names_in_the_set, "", True),
        (_half_made, "", False),
        (_renamed, "", True),
        (_symlink_in_place_of_the_set, "is a symbolic link", True),
        (_map_in_place_of_the_set, "are replaced", True),
        (_empty, "are replaced", True),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else None,
)
def test_incompatible_or_incomplete_pins_are_replaced(
    pin_dir: Path,
    caplog: pytest.LogCaptureFixture,
    fault: Callable[[Path], None],
    message: str,
    *,
    ring_is_kept: bool,
) -> None:
    """The records of the ring are read if it is still there; the next start finds no fault."""
    with LibbpfSource(pin_dir=pin_dir):
        early = kill_one()
    all_rings = ring_ids(pin_dir)
    fault(pin_dir)
    with LibbpfSource(pin_dir=pin_dir) as source:
        assert source.pinned
        all_rings |= ring_ids(pin_dir)
        assert count_writers(all_rings, expected=1) == 1
        now = kill_one()
        events = drain_exits(source, *[early] * ring_is_kept, now)
    assert recovered_by_pid(events, early, now) == [*[(early, True)] * ring_is_kept, (now, False)]
    assert (message in caplog.text) if message else not caplog.records
    assert [each.name for each in pin_dir.iterdir()] == [CURRENT]
    links = {each.name for each in (pin_dir / CURRENT / "links").iterdir()}
    assert not links & {"new", "stray", "astray"}
    caplog.clear()
    with LibbpfSource(pin_dir=pin_dir) as source:
        later = kill_one()
        assert recovered_by_pid(drain_exits(source, later), later) == [(later, False)]
    assert not caplog.records
    assert run_otel_oom("unpin", "--pin-dir", pin_dir).code == 0
    assert count_writers(all_rings, expected=0) == 0


@pytest.mark.parametrize("is_upgrade", [False, True])
def test_a_start_that_fails_leaves_programs_attached_where_there_were_some(
    pin_dir: Path, *, is_upgrade: bool
) -> None:
    """As by an unusable state directory: the source is attached before that is known."""
    if is_upgrade:
        with LibbpfSource(pin_dir=pin_dir):
            pass
        remove(pin_dir / CURRENT / "maps/oom_lost_kills")
    source = LibbpfSource(pin_dir=pin_dir)
    attaching = AttachThread(source)
    attaching.cancel()
    assert [*pin_dir.glob("*/links/*")] != [] if is_upgrade else not (pin_dir / CURRENT).exists()
    with LibbpfSource(pin_dir=pin_dir) as later:
        later.drain(lambda _: None)
    assert [pin.name for pin in pin_dir.iterdir()] == [CURRENT]


def test_foreign_names_in_the_folder_stay(pin_dir: Path) -> None:
    (pin_dir / "foreign" / "nested").mkdir(mode=0o700, parents=True)
    pin_dir.chmod(0o700)
    with LibbpfSource(pin_dir=pin_dir):
        pass
    assert run_otel_oom("unpin", "--pin-dir", pin_dir).code == 0
    assert [each.name for each in pin_dir.iterdir()] == ["foreign"]
    assert (pin_dir / "foreign" / "nested").exists()


def test_sigkill_during_the_start_does_not_affect_the_next(tmp_path: Path, pin_dir: Path) -> None:
    """At twenty instants."""
    words: list[str | Path] = [
        *AGENT_COMMAND,
        "--state-dir",
        tmp_path / "state",
        "--pin-dir",
        pin_dir,
    ]
    settings = os.environ | {"OTEL_SDK_DISABLED": "true"}
    for step in range(20):
        with subprocess.Popen(words, env=settings, stderr=subprocess.DEVNULL) as early:
            # Most of a start is Python; the steps in the kernel come last.
            time.sleep(0.06 + step * 0.008)
            early.kill()
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}, pin_dir=pin_dir) as last:
        pid = kill_one()
        wait_for_log(last, f"pid {pid}")
        assert count_writers(ring_ids(pin_dir), expected=1) == 1
        last.stop()
    assert [each.name for each in pin_dir.iterdir()] == [CURRENT]


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return a function that leaves pins of a later version's agent, with another wire version."""
    require(shutil.which("clang"), "clang builds the other version")
    source = REPOSITORY / "bpf"
    built = shutil.copytree(source, tmp_path / "next" / "bpf")
    header = built / "events.h"
    text = header.read_text(encoding="utf-8")
    number = f"#define OOM_WIRE_VERSION {WIRE_VERSION}"
    assert number in text
    header.write_text(text.replace(number, f"#define OOM_WIRE_VERSION {WIRE_VERSION + 1}"))
    subprocess.run(
        ["make", "-C", built, f"OUT={tmp_path / 'next.bpf.o'}"], check=True, capture_output=True
    )

    def leave(pin_dir: Path) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(loader, "OBJECT", tmp_path / "next.bpf.o")
            patched.setattr(pinning, "_CURRENT", f"wire-{WIRE_VERSION + 1}")
            with LibbpfSource(pin_dir=pin_dir):
                pass

    return leave


def test_records_of_another_version_are_kept_as_undecodable(
    tmp_path: Path, pin_dir: Path, next_version: Callable[[Path], None]
) -> None:
    next_version(pin_dir)
    kill_one()
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}, pin_dir=pin_dir) as running:
        pid = kill_one()
        wait_for_log(running, f"pid {pid}")
        wait_for_log(running, "kept in")
        running.stop()
    records = [path.read_bytes() for path in (running.state_dir / "undecodable").iterdir()]
    headers = [Header.from_buffer_copy(record) for record in records]
    assert len(headers) >= 2
    assert {header.version for header in headers} == {WIRE_VERSION + 1}
    assert [header.size for header in headers] == [len(record) for record in records]
    assert running.log_text().count("kept in") == len(records)
    assert f"undecodable records={len(records)}" in running.log_text()
    assert [each.name for each in pin_dir.iterdir()] == [CURRENT]


def test_records_of_a_ring_of_another_size_are_read(pin_dir: Path) -> None:
    with LibbpfSource(1 << 16, pin_dir=pin_dir):
        early = kill_one()
    rings = ring_ids(pin_dir)
    with LibbpfSource(pin_dir=pin_dir) as source:
        rings |= ring_ids(pin_dir)
        assert count_writers(rings, expected=1) == 1
        now = kill_one()
        events = drain_exits(source, early, now)
    assert recovered_by_pid(events, early, now) == [(early, True), (now, False)]


def test_marks_are_reused_across_ring_sizes_and_versions(
    pin_dir: Path, next_version: Callable[[Path], None]
) -> None:
    with LibbpfSource(1 << 16, pin_dir=pin_dir):
        first = kill_one()
    with LibbpfSource(pin_dir=pin_dir) as source:
        (mark,) = source.read_marks({first})
        (kill, *_) = [event for event in drain_exits(source, first) if isinstance(event, OomKill)]
        assert (mark.boottime_ns, mark.start_boottime_ns) == (
            kill.boottime_ns,
            kill.victim.start_boottime_ns,
        )
        assert mark.comm == kill.victim.comm
    next_version(pin_dir)
    second = kill_one()
    with LibbpfSource(pin_dir=pin_dir) as source:
        source.drain(lambda _event: None)
        assert [each.name for each in pin_dir.iterdir()] == [CURRENT]
        third = kill_one()
        marks = source.read_marks({first, second, third})
    assert marks[0] == mark
    assert [each.tgid for each in marks] == [first, second, third]


def test_other_options_reuse_the_maps(pin_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Recording command lines is an option of the programs."""
    with LibbpfSource(pin_dir=pin_dir):
        early = kill_one()
    with LibbpfSource(pin_dir=pin_dir, want_command=True) as source:
        assert count_writers(ring_ids(pin_dir), expected=1) == 1
        now = kill_one()
        events = drain_exits(source, early, now)
    kills = {event.victim.tgid: event.victim for event in events if isinstance(event, OomKill)}
    assert (kills[early].command, kills[now].command) == (None, ("tail", "/dev/zero"))
    assert not caplog.records


def test_lost_events_without_an_agent_are_reported_once(pin_dir: Path) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    counted = read_oom_kill_count()
    with LibbpfSource(page, pin_dir=pin_dir) as source:
        assert source.lost_events().victims == 0
    kill_many(12, at_once=1)
    with LibbpfSource(page, pin_dir=pin_dir) as source:
        kills = read_oom_kill_count() - counted
        events: list[CapturedEvent] = []
        source.drain(events.append)
        captured = sum(isinstance(event, OomKill) for event in events)
        assert 0 < captured < kills
        assert source.lost_events().victims == kills - captured
        assert source.lost_events().victims == kills - captured
    with LibbpfSource(page, pin_dir=pin_dir) as source:
        assert (source.lost_events().victims, source.lost_events().exits) == (0, 0)


def run_until_kill(tmp_path: Path, folder: Path, prefix: tuple[str, ...] = ()) -> str:
    """Return the log of an agent with pins in ``folder`` until it has captured a kill."""
    words: list[str | Path] = [*prefix, *AGENT_COMMAND]
    words += ["--state-dir", tmp_path / "state", "--pin-dir", folder]
    settings = os.environ | {"OTEL_SDK_DISABLED": "true"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, env=settings, text=True) as running:
        assert running.stderr is not None
        log: str = ""
        for text in ("Ready", "OOM kill of"):
            while text not in log:
                line = running.stderr.readline()
                assert line, log
                log += line
            if text == "Ready":
                kill_one()
        running.terminate()
        log += running.stderr.read()
    assert running.returncode == 0
    return str(log)


def test_agent_captures_without_pins_where_there_is_no_bpffs(tmp_path: Path) -> None:
    log = run_until_kill(tmp_path, tmp_path / "no" / "bpffs")
    (line,) = [line for line in log.splitlines() if "Could not pin" in line]
    assert "--pin-dir" in line
    assert not (tmp_path / "no").exists()


def test_folder_writable_by_others_is_not_used(tmp_path: Path, pin_dir: Path) -> None:
    pin_dir.mkdir(parents=True)
    pin_dir.chmod(0o777)
    assert "is writable by group or others" in run_until_kill(tmp_path, pin_dir)
    assert not list(pin_dir.iterdir())


def test_missing_bpffs_is_mounted(tmp_path: Path) -> None:
    """At its usual place, in the mount namespace of the agent."""
    prefix = mount_namespace("umount -l /sys/fs/bpf || true")
    assert "Could not pin" not in run_until_kill(tmp_path, Path("/sys/fs/bpf/otel-oom/v1"), prefix)


def test_doctor_warns_of_pins_without_an_agent(tmp_path: Path) -> None:
    def pins_line(done: CompletedCommand) -> str:
        return next(line for line in done.out.splitlines() if " pins:" in line)

    program = (
        "mount -t bpf -o mode=700 bpf /sys/fs/bpf && "
        f"timeout -s KILL 3 {' '.join(AGENT_COMMAND)} --state-dir {tmp_path} 2>/dev/null; true"
    )
    assert "✓" in pins_line(
        run_otel_oom("doctor", prefix=mount_namespace("mount -t bpf bpf /sys/fs/bpf"))
    )
    after = run_otel_oom("doctor", prefix=mount_namespace(program))
    assert pins_line(after).startswith("!")
    assert "otel-oom unpin" in after.out
