"""OOM panics of earlier boots, from records and journals that are written here."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.capture.panic import scan
from otel_oom.capture.panic.previous_boot import PreviousBoot
from otel_oom.capture.panic.pstore import has_backend, read_panic_dumps
from otel_oom.capture.panic.scan import find_panics, start_panic_scan
from otel_oom.enrich.stack_analysis import analyse_stack
from otel_oom.model.events import Panic
from tests.testlib.samples.log_lines import HOST_KILL_SUMMARY, KILLED, NO_KILLABLE_PROCESS, REPORT
from tests.testlib.samples.panics import (
    BEGIN_NS,
    BOOT_ID,
    COMPULSORY,
    DEADLOCK,
    HOST_REPORT,
    MEMCG_REPORT,
    STEP_NS,
    STORED_NS,
    SYSTEM_WIDE,
    UNIX_OFFSET_NS,
    journal_of_previous_boot,
    panic_lines,
    pstore_lines,
    write_pstore_records,
)

FindPanics = Callable[..., list[Panic]]


@pytest.fixture
def find(tmp_path: Path) -> FindPanics:
    """Return a function that scans the records of the test, and a journal if one is given."""

    def find(
        boot: PreviousBoot | None = None, *, backend: bool = True, policy: str = "0"
    ) -> list[Panic]:
        (tmp_path / "policy").write_text(f"{policy}\n", encoding="ascii")
        return list(
            find_panics((tmp_path / "pstore",), lambda: boot, lambda: backend, tmp_path / "policy")
        )

    return find


def test_panic_has_what_its_report_has(find: FindPanics, tmp_path: Path) -> None:
    write_pstore_records(
        tmp_path / "pstore", pstore_lines([*MEMCG_REPORT, *panic_lines(COMPULSORY)])
    )
    (event,) = find()
    assert event.message == COMPULSORY
    assert (event.tid, event.comm) == (5356, "tail")
    assert event.trigger is not None
    assert (event.trigger.tgid, event.trigger.uid) == (5356, 0)
    decision = event.decision
    assert decision is not None
    assert (decision.constraint, decision.gfp_mask, decision.order) == ("memcg", 0xCC0, 0)
    assert decision.memcg is not None
    assert decision.memcg.path == "/outer"
    assert decision.memcg_usage is not None
    assert decision.memcg_usage.limit == 16384 << 10
    assert analyse_stack(event.stack).origin == "memcg"
    assert event.time_unix_ns == STORED_NS
    assert event.time_source == "record"
    assert event.boot_id == ""
    assert event.capture.source == "pstore"


@pytest.mark.parametrize(
    ("message", "texts", "constraint"),
    [
        (SYSTEM_WIDE, HOST_REPORT, "none"),
        (DEADLOCK, [*HOST_REPORT, NO_KILLABLE_PROCESS], None),
        (COMPULSORY, HOST_REPORT, None),
        # Before 4.19, and before 2.6.36.
        (NO_KILLABLE_PROCESS, HOST_REPORT, None),
        ("out of memory. panic_on_oom is selected", HOST_REPORT, None),
        ("out of memory from page fault. panic_on_oom is selected.", HOST_REPORT, None),
        ("out of memory(memcg). panic_on_oom is selected.", HOST_REPORT, None),
        ("out of memory. Compulsory panic_on_oom is selected.", HOST_REPORT, None),
    ],
)
def test_panic_of_the_host_has_no_cgroup(
    find: FindPanics, tmp_path: Path, message: str, texts: list[str], constraint: str | None
) -> None:
    """Of its kinds only that of panic_on_oom=1 has a constraint."""
    write_pstore_records(tmp_path / "pstore", pstore_lines([*texts, *panic_lines(message)]))
    (event,) = find()
    assert event.message == message
    assert event.decision is not None
    assert event.decision.constraint == constraint
    assert event.decision.gfp_flags == "GFP_KERNEL"
    assert event.decision.memcg is None
    assert analyse_stack(event.stack).origin == "host"


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_are_joined_in_order(find: FindPanics, tmp_path: Path, parts: int) -> None:
    texts = [*MEMCG_REPORT, *panic_lines(COMPULSORY)]
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts), parts=parts)
    (event,) = find()
    first, *rest = event.original.split("\n")
    assert first == f"[  500.000000] {texts[0]}"
    assert [line.partition("] ")[2] for line in rest] == texts[1:]
    assert event.decision is not None
    assert event.decision.order == 0


def test_panics_of_two_boots_are_not_joined(find: FindPanics, tmp_path: Path) -> None:
    """Each boot counts its dumps from 1."""
    folder = tmp_path / "pstore"
    write_pstore_records(
        folder, pstore_lines([*MEMCG_REPORT, *panic_lines(COMPULSORY)]), parts=2, number=7000
    )
    write_pstore_records(
        folder, pstore_lines([*HOST_REPORT, *panic_lines(SYSTEM_WIDE)], 10**9), parts=3, number=8000
    )
    write_pstore_records(
        folder, pstore_lines(panic_lines(SYSTEM_WIDE), 10**10), parts=1, number=9000
    )
    panics = find()
    assert [event.message for event in panics] == [COMPULSORY, SYSTEM_WIDE, SYSTEM_WIDE]
    assert len({event.uid for event in panics}) == 3


def test_panic_keeps_its_uid(find: FindPanics, tmp_path: Path) -> None:
    """Even if the record is moved, and whatever the journal has."""
    folder = tmp_path / "pstore"
    texts = [*MEMCG_REPORT, *panic_lines(COMPULSORY)]
    paths = write_pstore_records(folder, pstore_lines(texts), parts=2)
    (first,) = find()
    moved = folder / "7000000" / "001"
    moved.mkdir(parents=True)
    for path in paths:
        path.rename(moved / path.name)
    (moved / "dmesg.txt").write_bytes(b"Panic#1 Part1\n" + b"\n".join(pstore_lines(texts)))
    panics = find(journal_of_previous_boot(texts))
    assert [event.uid for event in panics] == [first.uid] * 2
    assert [event.capture.source for event in panics] == ["pstore", "journal"]


def test_panic_without_its_report_has_its_own_stack(find: FindPanics, tmp_path: Path) -> None:
    """A long table of processes may displace what precedes it."""
    lines = pstore_lines([*HOST_REPORT, *panic_lines(DEADLOCK)])[len(HOST_REPORT) - 1 :]
    # A part that could not be compressed begins within a line.
    write_pstore_records(tmp_path / "pstore", [lines[0][9:], *lines[1:]])
    (event,) = find()
    assert (event.tid, event.comm, event.trigger) == (5356, "tail", None)
    assert event.stack[0].startswith("out_of_memory.cold+")
    origin = analyse_stack(event.stack)
    assert (origin.origin, origin.memory_type, origin.entry_point) == (
        "host",
        "anonymous",
        "page_fault",
    )
    assert event.decision is not None
    assert event.decision.gfp_mask is None
    assert event.original.startswith("[")
    assert "Kernel panic" in event.original.split("\n")[0]


def test_thread_without_a_row_has_no_process(find: FindPanics, tmp_path: Path) -> None:
    """The log has thread ids; only its table has processes."""
    texts = [
        line.replace("PID: 5356", "PID: 5399") for line in [*MEMCG_REPORT, *panic_lines(COMPULSORY)]
    ]
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts))
    (event,) = find()
    assert (event.tid, event.trigger) == (5399, None)


def test_lines_of_other_callers_are_ignored(find: FindPanics, tmp_path: Path) -> None:
    own = pstore_lines([*MEMCG_REPORT, *panic_lines(COMPULSORY)], prefix="[ T5356]")
    other = pstore_lines(["CPU: 0 UID: 0 PID: 7 Comm: x Not tainted 6.18.44 #1"], prefix="[    C0]")
    write_pstore_records(tmp_path / "pstore", [line for own in own for line in (*other, own)])
    (event,) = find()
    assert event.tid == 5356
    assert event.decision is not None
    assert event.decision.order == 0


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="empty"),
        pytest.param(
            pstore_lines(panic_lines("Attempted to kill init! exitcode=0x00000009")), id="another"
        ),
        pytest.param(pstore_lines(panic_lines(f"{COMPULSORY}?")), id="longer"),
        pytest.param(
            [line.replace(b"<4>", b"<12>") for line in pstore_lines(panic_lines(COMPULSORY))],
            id="user space",
        ),
        pytest.param([line[3:] for line in pstore_lines(panic_lines(COMPULSORY))], id="no level"),
        pytest.param(pstore_lines([*REPORT, KILLED]), id="a kill"),
        pytest.param([b"", b"No errors detected", b"5 Corrected bytes"], id="notices"),
    ],
)
def test_other_records_are_no_oom_panics(
    find: FindPanics, tmp_path: Path, lines: list[bytes]
) -> None:
    write_pstore_records(tmp_path / "pstore", lines)
    assert find() == []


def test_oops_is_no_panic(find: FindPanics, tmp_path: Path) -> None:
    (path,) = write_pstore_records(tmp_path / "pstore", pstore_lines(panic_lines(COMPULSORY)))
    assert len(find()) == 1
    path.write_bytes(path.read_bytes().replace(b"Panic#1", b"Oops#1"))
    assert find() == []


def test_corrupt_records_do_not_hide_a_good_one(find: FindPanics, tmp_path: Path) -> None:
    folder = tmp_path / "pstore"
    noise = bytes(range(256)) * 64
    write_pstore_records(
        folder,
        [*pstore_lines([*MEMCG_REPORT, *panic_lines(COMPULSORY)]), b"", b"No errors detected"],
    )
    for number, content in enumerate(
        [
            b"",
            b"\n",
            b"Panic#",
            b"Panic#1 Part",
            b"Panic#1 Part2\n",
            noise,
            b"Panic#1 Part9\n" + noise,
        ]
    ):
        (folder / f"dmesg-ramoops-{number}").write_bytes(content)
    (folder / "dmesg-erst-99999999999999999999").write_bytes(b"Panic#9 Part1\n<4>[ 1")
    (folder / "dmesg-erst-5").symlink_to(folder / "dmesg-erst-7000000001")
    os.mkfifo(folder / "dmesg-erst-6")
    (folder / "dmesg-erst-8").mkdir()
    (folder / "console-ramoops-0").write_bytes(b"\n".join(pstore_lines(panic_lines(COMPULSORY))))
    (event,) = find()
    assert event.message == COMPULSORY
    assert "errors detected" not in event.original


def test_hostile_name_is_escaped(find: FindPanics, tmp_path: Path) -> None:
    """A name that ends like its line stays a name."""
    lines = pstore_lines([*MEMCG_REPORT, *panic_lines(COMPULSORY)])
    name = b"a Not tainted \xff"
    lines = [line.replace(b"tail", name) for line in lines]
    write_pstore_records(tmp_path / "pstore", lines)
    (event,) = find()
    assert event.comm == r"a Not tainted \xff"
    assert r"\xff" in event.original


def test_original_is_limited_to_whole_lines_at_the_end(find: FindPanics, tmp_path: Path) -> None:
    rows = ["[   5356]     0  5356     4701     4383     4000"] * 2000
    texts = [*MEMCG_REPORT, *rows, *panic_lines(COMPULSORY)]
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts))
    (event,) = find()
    assert len(event.original) <= 1 << 15
    lines = event.original.split("\n")
    assert lines[-1].endswith(texts[-1])
    assert all(line.startswith("[  50") for line in lines)


def test_journal_of_the_same_boot_adds_report_id_and_clock(
    find: FindPanics, tmp_path: Path
) -> None:
    texts = [KILLED, *MEMCG_REPORT, *panic_lines(COMPULSORY)]
    start = len(texts) - len(panic_lines(COMPULSORY)) - 3
    # The journal has no callers, and one line more than was stored.
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts, prefix="[ T5356]")[start:])
    (event,) = find(journal_of_previous_boot(texts[: start + 1]))
    assert event.boot_id == BOOT_ID
    assert event.decision is not None
    assert event.decision.memcg is not None
    time_ns = BEGIN_NS + texts.index(panic_lines(COMPULSORY)[0]) * STEP_NS
    assert event.boottime_ns == time_ns
    assert (event.time_unix_ns, event.time_source) == (UNIX_OFFSET_NS + time_ns, "log")
    lines = [line.partition("] ")[2].rstrip() for line in event.original.split("\n")]
    assert lines == [text.rstrip() for text in texts[1:]]


def test_journal_of_another_boot_adds_nothing(find: FindPanics, tmp_path: Path) -> None:
    """It has the same lines at other times."""
    texts = [*MEMCG_REPORT, *panic_lines(COMPULSORY)]
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts)[-20:])
    (event,) = find(journal_of_previous_boot(texts[:-15], BEGIN_NS + 1000))
    assert (event.boot_id, event.time_source) == ("", "record")
    assert event.decision is not None
    assert event.decision.order is None


def test_few_equal_lines_are_not_the_same_boot(find: FindPanics, tmp_path: Path) -> None:
    """Two boots can print one line at the same microsecond, but not most lines."""
    texts = [*MEMCG_REPORT, *panic_lines(COMPULSORY)]
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts))
    other = journal_of_previous_boot(texts[:-15], BEGIN_NS + 1000)
    (line, *_) = journal_of_previous_boot(texts[:1]).lines
    (event,) = find(replace(other, lines=(line, *other.lines)))
    assert event.boot_id == ""
    # Before the clock runs, both have the same lines.
    (event,) = find(
        replace(
            journal_of_previous_boot(texts[:5], 0),
            lines=journal_of_previous_boot(texts[:1], 0).lines,
        )
    )
    assert event.boot_id == ""


def test_time_of_a_late_journal_is_not_used(find: FindPanics, tmp_path: Path) -> None:
    """A panic is not later than its record."""
    texts = [*MEMCG_REPORT, *panic_lines(COMPULSORY)]
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts))
    late = replace(journal_of_previous_boot(texts[:-15]), unix_offset_ns=UNIX_OFFSET_NS + 5 * 10**9)
    (event,) = find(late)
    assert (event.boot_id, event.time_source) == (BOOT_ID, "record")
    assert event.time_unix_ns == STORED_NS


def test_panic_in_the_journal_is_found_without_a_store(find: FindPanics) -> None:
    (event,) = find(journal_of_previous_boot([*HOST_REPORT, *panic_lines(SYSTEM_WIDE)]))
    assert (event.message, event.boot_id) == (SYSTEM_WIDE, BOOT_ID)
    assert event.capture.source == "journal"
    assert event.time_unix_ns == UNIX_OFFSET_NS + event.boottime_ns


@pytest.mark.parametrize(
    ("texts", "policy", "count"),
    [
        (HOST_REPORT, "0", 0),
        (HOST_REPORT, "1", 1),
        (HOST_REPORT, "2", 1),
        (MEMCG_REPORT, "1", 0),
        (MEMCG_REPORT, "2", 1),
        ([*MEMCG_REPORT, KILLED], "2", 0),
        (REPORT, "2", 0),
        ([*HOST_REPORT, HOST_KILL_SUMMARY], "2", 0),
        ([*MEMCG_REPORT, NO_KILLABLE_PROCESS], "2", 0),
        ([line.replace("order=0", "order=-1") for line in HOST_REPORT], "2", 0),
        (HOST_REPORT, "", 0),
    ],
)
def test_report_at_the_end_of_a_boot_is_a_panic_by_policy(
    find: FindPanics, texts: list[str], policy: str, count: int
) -> None:
    """Unless a victim was chosen, or a store would have start the panic."""
    events = find(journal_of_previous_boot(texts), backend=False, policy=policy)
    assert len(events) == count
    for event in events:
        assert event.message is None
        assert event.boottime_ns == BEGIN_NS
        assert (event.tid, event.boot_id) == (5356, BOOT_ID)
    assert find(journal_of_previous_boot(texts), backend=True, policy=policy) == []


def test_report_long_before_the_end_is_no_panic(find: FindPanics) -> None:
    boot = journal_of_previous_boot([*HOST_REPORT, "usb 1-1: USB disconnect"], BEGIN_NS)
    late = boot.lines[-1]
    later = PreviousBoot(
        boot.boot_id,
        (*boot.lines[:-1], type(late)(late.text, late.time_ns + 120 * 10**9, late.sequence)),
        boot.unix_offset_ns,
    )
    assert find(boot, backend=False, policy="2")
    assert not find(later, backend=False, policy="2")


def test_log_without_times_has_the_time_of_its_record(find: FindPanics, tmp_path: Path) -> None:
    """With printk.time=0."""
    lines = [b"<4>" + text.encode() for text in [*MEMCG_REPORT, *panic_lines(COMPULSORY)]]
    write_pstore_records(tmp_path / "pstore", lines)
    write_pstore_records(tmp_path / "pstore", lines, number=8_000_000_000, unix_ns=STORED_NS + 1)
    first, second = find()
    assert (first.tid, first.boottime_ns, first.time_unix_ns) == (5356, 0, STORED_NS)
    assert first.uid != second.uid


def test_compressed_records_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "dmesg-erst-1.enc.z").write_bytes(b"x")
    assert list(read_panic_dumps((tmp_path,))) == []
    assert "1 records" in caplog.text


def test_unreadable_store_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing one is not."""
    assert list(read_panic_dumps((tmp_path / "none",))) == []
    assert not caplog.records

    def fail(_folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(f"{read_panic_dumps.__module__}.os.scandir", fail)
    assert list(read_panic_dumps((tmp_path,))) == []
    assert str(tmp_path) in caplog.text
    assert "CAP_DAC_READ_SEARCH" in caplog.text


def test_backend_of_the_store_is_detected(tmp_path: Path) -> None:
    parameter = tmp_path / "backend"
    assert not has_backend(parameter)
    for value in ("(null)\n", "", "\n"):
        parameter.write_text(value, encoding="ascii")
        assert not has_backend(parameter)
    parameter.write_text("erst\n", encoding="ascii")
    assert has_backend(parameter)


def scan_once(monkeypatch: pytest.MonkeyPatch, find: Callable[[], list[Panic]]) -> list[Panic]:
    """Return the panics that a scan records."""
    monkeypatch.setattr(scan, "find_panics", find)
    recorded: list[Panic] = []

    def record(event: Panic) -> bool:
        recorded.append(event)
        return True

    start_panic_scan(record, lambda: None)
    for thread in threading.enumerate():
        if thread.name == "panics":
            thread.join()
    return recorded


def test_panics_are_recorded_in_a_thread(
    monkeypatch: pytest.MonkeyPatch, find: FindPanics, tmp_path: Path
) -> None:
    write_pstore_records(tmp_path / "pstore", pstore_lines(panic_lines(COMPULSORY)))
    events = find()
    assert scan_once(monkeypatch, lambda: events) == events


def test_failed_scan_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> list[Panic]:
        raise OSError("input/output error")

    assert scan_once(monkeypatch, broken) == []
    assert "input/output error" in caplog.text
