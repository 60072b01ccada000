"""The kernel side goes on without an agent, and nothing of it comes between a kill and the next."""

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
    """A folder for pins that is not there yet, in a bpffs of the test's own."""
    with mount_bpffs(tmp_path / "bpffs") as mounted:
        yield mounted / "otel-oom" / "v1"


def drained(source: LibbpfSource, *made: int) -> list[CapturedEvent]:
    """What ``source`` has, once those victims have exited; others of the host's left out."""
    events: list[CapturedEvent] = []
    deadline = time.monotonic() + DRAIN_S
    while not set(made) <= {event.tgid for event in events if isinstance(event, VictimExit)}:
        assert time.monotonic() < deadline, events
        source.drain(events.append)
        select.select([source], [], [], 0.1)
    return events


def told(events: list[CapturedEvent], *made: int) -> list[tuple[int, bool]]:
    """Of the victims ``made``, who was told of as killed, and whether as late."""
    kills = [event for event in events if isinstance(event, OomKill)]
    pairs = [(kill.victim.tgid, kill.capture.recovered) for kill in kills]
    return [(pid, late) for pid, late in pairs if pid in made]


def bpftool(*words: str | Path) -> Any:  # noqa: ANN401  as it prints
    """What the kernel has of BPF, as another program tells it."""
    program = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin")
    require(program, "bpftool tells which programs there are")
    shown = subprocess.run([str(program), "-j", *words], check=True, capture_output=True)
    return json.loads(shown.stdout)


def rings(pin_dir: Path) -> set[int]:
    """The ids of all ring buffers in ``pin_dir``."""
    paths = pin_dir.glob("*/maps/oom_ring")
    return {bpftool("map", "show", "pinned", path)["id"] for path in paths}


def writers(of: set[int], expected: int) -> int:
    """How many programs tell of marks in those rings, once the kernel has freed what it can."""
    names = {name for names in VICTIM_HOOKS.values() for name in names}
    deadline = time.monotonic() + DRAIN_S
    while True:
        programs = [each for each in bpftool("prog", "show") if each.get("name") in names]
        count = sum(not of.isdisjoint(each.get("map_ids", ())) for each in programs)
        if count <= expected or time.monotonic() > deadline:
            return count
        time.sleep(0.1)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_kills_without_an_agent_are_told_by_the_next(
    tmp_path: Path, pin_dir: Path, end: signal.Signals
) -> None:
    """Three kills while none is alive: each told once, as late, with what the kernel knew of it."""
    nobody = f"http://127.0.0.1:{free_port()}"
    with run_agent(tmp_path, {ENDPOINT: nobody}, pin_dir=pin_dir) as first:
        seen = kill_one()
        wait_for_log(first, f"pid {seen}")
        hooked = "oom_kill_process" in first.log_text()
        first.stop(end)
    with KernelLog() as log:
        unseen = [kill_one() for _ in range(3)]
        logged = {line.pid: line for line in log.read_killed_lines()}
    backend = Backend()
    with Receiver(backend) as receiver:
        environ = {ENDPOINT: receiver.url}
        with run_agent(tmp_path, environ, pin_dir=pin_dir) as second:
            backend.wait_for_kills([seen, *unseen], within_s=30)
            after = kill_one()
            backend.wait_for_kills([after], within_s=30)
            second.stop()
        # What was told is not told again.
        with run_agent(tmp_path, environ, pin_dir=pin_dir) as third:
            last = kill_one()
            backend.wait_for_kills([last], within_s=30)
            third.stop()
    made = [seen, *unseen, after, last]
    for received in (filter_kills(backend.logs, made), filter_kills(backend.spans, made)):
        # What was under way when its answer was cut off may come twice, under one uid.
        assert len({each.uid for each in received}) == 6
        told = {each.attributes["process.pid"]: each.attributes for each in received}
        assert sorted(told) == sorted(made)
        assert {pid for pid in told if told[pid].get("oom.capture.recovered")} == set(unseen)
        for pid in unseen:
            assert told[pid]["oom.victim.memory.anon"] == logged[pid].anon * 1024
            assert told[pid]["oom.victim.comm"] == logged[pid].comm
            assert "process.linux.cgroup" not in told[pid]
            assert told[pid].get("oom.limit.scope") == ("own" if hooked or explained(pid) else None)
    spans = filter_kills(backend.spans, made)
    assert all(each.attributes["oom.victim.exited"] for each in spans)


def explained(pid: int) -> bool:
    """Whether the kernel's log has a report of that kill: of many at a time it has but a few."""
    log = subprocess.run(["dmesg"], check=True, capture_output=True).stdout
    return re.search(rb"oom-kill:constraint=.*,pid=%d," % pid, log) is not None


def wait_for_log(running: Agent, text: str, within_s: float = 15.0) -> None:
    """Wait until the agent has logged ``text``."""
    deadline = time.monotonic() + within_s
    while text not in running.log_text():
        assert time.monotonic() < deadline, running.log_text()
        time.sleep(0.02)


def test_what_could_not_be_stored_stays_in_the_kernel(pin_dir: Path) -> None:
    """An event whose handler failed to the end is the next source's first."""

    def full(_event: object) -> None:
        raise OSError("no space left on device")

    with LibbpfSource(pin_dir=pin_dir) as source:
        killed = [kill_one(), kill_one()]
        for _ in range(3):
            with pytest.raises(OSError, match="no space"):
                source.drain(full)
    with LibbpfSource(pin_dir=pin_dir) as source:
        assert told(drained(source, *killed), *killed) == [(pid, True) for pid in killed]


def test_a_victim_that_outlives_the_agent_is_told_to_have_exited(pin_dir: Path) -> None:
    """Its mark and its exit belong together, though another program saw each."""
    with LibbpfSource(pin_dir=pin_dir) as source:
        pid = kill_one()
        events: list[CapturedEvent] = []
        source.drain(events.append)
    with LibbpfSource(pin_dir=pin_dir) as source:
        if not any(isinstance(event, VictimExit) for event in events):
            events += drained(source, pid)
    assert told(events, pid) == [(pid, False)]


def test_a_second_agent_on_the_same_pins_says_so(tmp_path: Path, pin_dir: Path) -> None:
    """It ends with exit code 1 and a sentence, takes no other source, and the first goes on."""
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}, pin_dir=pin_dir) as first:
        done = run_otel_oom("run", "--state-dir", tmp_path / "other", "--pin-dir", pin_dir)
        assert done.code == 1
        assert f"Another otel-oom already captures by the pins in {pin_dir}" in done.error_message()
        assert "--pin-dir" in done.error_message()
        assert "Stop it first" in run_otel_oom("unpin", "--pin-dir", pin_dir).error_message()
        pid = kill_one()
        wait_for_log(first, f"pid {pid}")


def test_unpin_ends_it(tmp_path: Path, pin_dir: Path) -> None:
    """The programs leave the kernel and the folder its place; what nobody took is counted."""
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}, pin_dir=pin_dir) as first:
        first.stop()
    ring = rings(pin_dir)
    assert writers(ring, expected=1) == 1
    kill_one()
    done = run_otel_oom("unpin", "--pin-dir", pin_dir)
    assert done.code == 0
    found = re.fullmatch(r"(\d+) unread records were dropped\n", done.err)
    assert found is not None
    # A mark and an exit, and what else the host may have killed.
    assert int(found[1]) >= 2
    assert not pin_dir.parent.exists()
    assert writers(ring, expected=0) == 0
    again = run_otel_oom("unpin", "--pin-dir", pin_dir)
    assert (again.code, again.out, again.err) == (0, f"Nothing is pinned in {pin_dir}\n", "")


def test_without_pins_nothing_is_left(tmp_path: Path, pin_dir: Path) -> None:
    """With ``--no-pin`` the kernel side ends with the agent, and no folder is made."""
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


# What can be wrong with pins; each is one thing that SIGKILL, another version or a person leaves.


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


def _replaced_by_a_map(pin_dir: Path) -> None:
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


def _strangers_in_the_set(pin_dir: Path) -> None:
    (pin_dir / CURRENT / "links" / "stray").mkdir()
    (pin_dir / CURRENT / "links" / "astray").symlink_to("/etc")


def _half_made(pin_dir: Path) -> None:
    (pin_dir / CURRENT).rename(pin_dir / "making")


def _set_aside(pin_dir: Path) -> None:
    (pin_dir / CURRENT).rename(pin_dir / "old-1")


def _link_in_the_sets_place(pin_dir: Path) -> None:
    (pin_dir / CURRENT).rename(pin_dir / "old-1")
    (pin_dir / CURRENT).symlink_to("old-1")


def _map_in_the_sets_place(pin_dir: Path) -> None:
    _other_map(pin_dir)
    (pin_dir / CURRENT / "maps" / "oom_victims").rename(pin_dir / "stray")
    (pin_dir / CURRENT).rename(pin_dir / "old-1")
    (pin_dir / "stray").rename(pin_dir / CURRENT)


def _empty(pin_dir: Path) -> None:
    (pin_dir / CURRENT).rename(pin_dir / "old-7")
    (pin_dir / CURRENT).mkdir()


@pytest.mark.parametrize(
    ("harm", "said", "kept"),
    [
        (_other_map, "oom_victims is", True),
        (_other_link, "sched_process_exit wrote elsewhere", True),
        (_replaced_by_a_map, "are replaced", True),
        (_no_ring, "oom_ring", False),
        (_no_link, "sched_process_exit was not pinned", True),
        (_no_links, "sched_process_exit was not pinned", True),
        (_unfinished_link, "sched_process_exit was not pinned", True),
        (_folder_for_a_link, "sched_process_exit", True),
        (_strangers_in_the_set, "", True),
        (_half_made, "", False),
        (_set_aside, "", True),
        (_link_in_the_sets_place, "is a symbolic link", True),
        (_map_in_the_sets_place, "are replaced", True),
        (_empty, "are replaced", True),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else None,
)
def test_whatever_is_wrong_is_replaced(
    pin_dir: Path,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Path], None],
    said: str,
    *,
    kept: bool,
) -> None:
    """It is said; what the ring held is told where there is one; and all is well afterwards."""
    with LibbpfSource(pin_dir=pin_dir):
        early = kill_one()
    all_rings = rings(pin_dir)
    harm(pin_dir)
    with LibbpfSource(pin_dir=pin_dir) as source:
        assert source.pinned
        all_rings |= rings(pin_dir)
        assert writers(all_rings, expected=1) == 1
        now = kill_one()
        events = drained(source, *[early] * kept, now)
    assert told(events, early, now) == [*[(early, True)] * kept, (now, False)]
    assert (said in caplog.text) if said else not caplog.records
    assert [each.name for each in pin_dir.iterdir()] == [CURRENT]
    links = {each.name for each in (pin_dir / CURRENT / "links").iterdir()}
    assert not links & {"new", "stray", "astray"}
    caplog.clear()
    with LibbpfSource(pin_dir=pin_dir) as source:
        later = kill_one()
        assert told(drained(source, later), later) == [(later, False)]
    assert not caplog.records
    assert run_otel_oom("unpin", "--pin-dir", pin_dir).code == 0
    assert writers(all_rings, expected=0) == 0


def test_what_is_not_ours_is_left_alone(pin_dir: Path) -> None:
    """Other names in the folder belong to somebody else, at the start and when unpinned."""
    (pin_dir / "somebody" / "elses").mkdir(mode=0o700, parents=True)
    pin_dir.chmod(0o700)
    with LibbpfSource(pin_dir=pin_dir):
        pass
    assert run_otel_oom("unpin", "--pin-dir", pin_dir).code == 0
    assert [each.name for each in pin_dir.iterdir()] == ["somebody"]
    assert (pin_dir / "somebody" / "elses").exists()


def test_sigkill_while_it_pins_leaves_nothing_that_is_in_the_way(
    tmp_path: Path, pin_dir: Path
) -> None:
    """Killed at twenty instants of its start; the next one captures, and no program is left."""
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
            # Most of a start is Python's own; what is done in the kernel comes last.
            time.sleep(0.06 + step * 0.008)
            early.kill()
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}, pin_dir=pin_dir) as last:
        pid = kill_one()
        wait_for_log(last, f"pid {pid}")
        assert writers(rings(pin_dir), expected=1) == 1
        last.stop()
    assert [each.name for each in pin_dir.iterdir()] == [CURRENT]


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Pins as a later version's agent leaves them, its records of another layout."""
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


def test_what_another_version_recorded_is_kept(
    tmp_path: Path, pin_dir: Path, next_version: Callable[[Path], None]
) -> None:
    """Records of a layout that is not known are on disk byte for byte, counted and said."""
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


def test_another_size_of_ring_keeps_what_the_first_held(pin_dir: Path) -> None:
    """Records of this layout in maps of another shape are told as any."""
    with LibbpfSource(1 << 16, pin_dir=pin_dir):
        early = kill_one()
    both = rings(pin_dir)
    with LibbpfSource(pin_dir=pin_dir) as source:
        both |= rings(pin_dir)
        assert writers(both, expected=1) == 1
        now = kill_one()
        events = drained(source, early, now)
    assert told(events, early, now) == [(early, True), (now, False)]


def test_marks_outlive_the_maps_that_they_were_made_beside(
    pin_dir: Path, next_version: Callable[[Path], None]
) -> None:
    """Neither another size of ring nor another layout of records makes a kill a new one."""
    with LibbpfSource(1 << 16, pin_dir=pin_dir):
        first = kill_one()
    with LibbpfSource(pin_dir=pin_dir) as source:
        (mark,) = source.read_marks({first})
        (kill, *_) = [event for event in drained(source, first) if isinstance(event, OomKill)]
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
        found = source.read_marks({first, second, third})
    assert found[0] == mark
    assert [each.tgid for each in found] == [first, second, third]


def test_other_options_are_no_other_pins(pin_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whether to tell command lines is a matter of the programs: nothing is set aside for it."""
    with LibbpfSource(pin_dir=pin_dir):
        early = kill_one()
    with LibbpfSource(pin_dir=pin_dir, want_command=True) as source:
        assert writers(rings(pin_dir), expected=1) == 1
        now = kill_one()
        events = drained(source, early, now)
    kills = {event.victim.tgid: event.victim for event in events if isinstance(event, OomKill)}
    assert (kills[early].command, kills[now].command) == (None, ("tail", "/dev/zero"))
    assert not caplog.records


def test_losses_without_an_agent_are_told_once(pin_dir: Path) -> None:
    """What found the ring full meanwhile is the next one's to tell, and not the one's after it."""
    page = os.sysconf("SC_PAGE_SIZE")
    counted = read_oom_kill_count()
    with LibbpfSource(page, pin_dir=pin_dir) as source:
        assert source.lost_events().victims == 0
    kill_many(12, at_once=1)
    with LibbpfSource(page, pin_dir=pin_dir) as source:
        made = read_oom_kill_count() - counted
        events: list[CapturedEvent] = []
        source.drain(events.append)
        seen = sum(isinstance(event, OomKill) for event in events)
        assert 0 < seen < made
        assert source.lost_events().victims == made - seen
        assert source.lost_events().victims == made - seen
    with LibbpfSource(page, pin_dir=pin_dir) as source:
        assert (source.lost_events().victims, source.lost_events().exits) == (0, 0)


def run_unpinned(tmp_path: Path, folder: Path, prefix: tuple[str, ...] = ()) -> str:
    """What the agent says until it has told of a kill, with pins in ``folder``."""
    words: list[str | Path] = [*prefix, *AGENT_COMMAND]
    words += ["--state-dir", tmp_path / "state", "--pin-dir", folder]
    settings = os.environ | {"OTEL_SDK_DISABLED": "true"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, env=settings, text=True) as running:
        assert running.stderr is not None
        said: str = ""
        for awaited in ("Ready", "OOM kill of"):
            while awaited not in said:
                line = running.stderr.readline()
                assert line, said
                said += line
            if awaited == "Ready":
                kill_one()
        running.terminate()
        said += running.stderr.read()
    assert running.returncode == 0
    return str(said)


def test_where_nothing_can_be_pinned_it_captures_all_the_same(tmp_path: Path) -> None:
    """It says so in one line, with a folder to name instead."""
    said = run_unpinned(tmp_path, tmp_path / "no" / "bpffs")
    (line,) = [line for line in said.splitlines() if "Could not pin" in line]
    assert "--pin-dir" in line
    assert not (tmp_path / "no").exists()


def test_a_folder_that_others_write_to_is_not_trusted(tmp_path: Path, pin_dir: Path) -> None:
    """Somebody else could put maps of their own into it."""
    pin_dir.mkdir(parents=True)
    pin_dir.chmod(0o777)
    assert "is writable by group or others" in run_unpinned(tmp_path, pin_dir)
    assert not list(pin_dir.iterdir())


def test_a_missing_bpffs_is_mounted(tmp_path: Path) -> None:
    """At its usual place, for the default folder; seen from the agent's own mount namespace."""
    prefix = mount_namespace("umount -l /sys/fs/bpf || true")
    assert "Could not pin" not in run_unpinned(tmp_path, Path("/sys/fs/bpf/otel-oom/v1"), prefix)


def test_doctor_tells_of_pins_without_an_agent(tmp_path: Path) -> None:
    """While one runs all is well; else what waits is told, and both ways out."""

    def found(done: CompletedCommand) -> str:
        return next(line for line in done.out.splitlines() if " pins:" in line)

    program = (
        "mount -t bpf -o mode=700 bpf /sys/fs/bpf && "
        f"timeout -s KILL 3 {' '.join(AGENT_COMMAND)} --state-dir {tmp_path} 2>/dev/null; true"
    )
    assert "✓" in found(
        run_otel_oom("doctor", prefix=mount_namespace("mount -t bpf bpf /sys/fs/bpf"))
    )
    after = run_otel_oom("doctor", prefix=mount_namespace(program))
    assert found(after).startswith("!")
    assert "otel-oom unpin" in after.out
