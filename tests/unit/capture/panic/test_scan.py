"""Panics of earlier boots, out of records and journals that are written here."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from otel_oom.capture.panic import scan as panic_module
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

Find = Callable[..., list[Panic]]


@pytest.fixture
def found(tmp_path: Path) -> Find:
    """What is told of the records in the test's folder and of a journal, if one is given."""

    def look(
        boot: PreviousBoot | None = None, *, backend: bool = True, policy: str = "0"
    ) -> list[Panic]:
        (tmp_path / "policy").write_text(f"{policy}\n", encoding="ascii")
        return list(
            find_panics((tmp_path / "pstore",), lambda: boot, lambda: backend, tmp_path / "policy")
        )

    return look


def test_a_panic_is_told_with_its_report(found: Find, tmp_path: Path) -> None:
    """Who asked, for what, whose limit it was and where in the kernel, by the report before it."""
    write_pstore_records(
        tmp_path / "pstore", pstore_lines([*MEMCG_REPORT, *panic_lines(COMPULSORY)])
    )
    (event,) = found()
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
    ],
)
def test_a_hosts_panic_has_no_cgroup(
    found: Find, tmp_path: Path, message: str, texts: list[str], constraint: str | None
) -> None:
    """All three kinds; only that of panic_on_oom=1 says that nothing bounded the choice."""
    write_pstore_records(tmp_path / "pstore", pstore_lines([*texts, *panic_lines(message)]))
    (event,) = found()
    assert event.message == message
    assert event.decision is not None
    assert event.decision.constraint == constraint
    assert event.decision.gfp_flags == "GFP_KERNEL"
    assert event.decision.memcg is None
    assert analyse_stack(event.stack).origin == "host"


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_are_put_in_order(found: Find, tmp_path: Path, parts: int) -> None:
    """However the log is cut, it is read from the highest part to the first."""
    texts = [*MEMCG_REPORT, *panic_lines(COMPULSORY)]
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts), parts=parts)
    (event,) = found()
    first, *rest = event.original.split("\n")
    assert first == f"[  500.000000] {texts[0]}"
    assert [line.partition("] ")[2] for line in rest] == texts[1:]
    assert event.decision is not None
    assert event.decision.order == 0


def test_panics_of_two_boots_are_two(found: Find, tmp_path: Path) -> None:
    """Each boot counts its dumps from 1: what tells them apart is that parts begin anew."""
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
    told = found()
    assert [event.message for event in told] == [COMPULSORY, SYSTEM_WIDE, SYSTEM_WIDE]
    assert len({event.uid for event in told}) == 3


def test_a_panic_keeps_its_name(found: Find, tmp_path: Path) -> None:
    """Its uid is of the record, wherever that is moved and whatever the journal still has."""
    folder = tmp_path / "pstore"
    texts = [*MEMCG_REPORT, *panic_lines(COMPULSORY)]
    paths = write_pstore_records(folder, pstore_lines(texts), parts=2)
    (first,) = found()
    moved = folder / "7000000" / "001"
    moved.mkdir(parents=True)
    for path in paths:
        path.rename(moved / path.name)
    (moved / "dmesg.txt").write_bytes(b"Panic#1 Part1\n" + b"\n".join(pstore_lines(texts)))
    told = found(journal_of_previous_boot(texts))
    assert [event.uid for event in told] == [first.uid] * 2
    assert [event.capture.source for event in told] == ["pstore", "journal"]


def test_a_panic_without_its_report_is_told_by_its_own_stack(found: Find, tmp_path: Path) -> None:
    """A long table of processes leaves no room for what was before it."""
    lines = pstore_lines([*HOST_REPORT, *panic_lines(DEADLOCK)])[len(HOST_REPORT) - 1 :]
    # A part that could not be compressed begins within a line.
    write_pstore_records(tmp_path / "pstore", [lines[0][9:], *lines[1:]])
    (event,) = found()
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


def test_a_thread_of_which_the_table_has_nothing_has_no_process(
    found: Find, tmp_path: Path
) -> None:
    """The log names threads; of which process one is, only the table tells."""
    texts = [
        line.replace("PID: 5356", "PID: 5399") for line in [*MEMCG_REPORT, *panic_lines(COMPULSORY)]
    ]
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts))
    (event,) = found()
    assert (event.tid, event.trigger) == (5399, None)


def test_threads_are_told_apart(found: Find, tmp_path: Path) -> None:
    """Where each line has its caller, what another processor prints between is not the panic's."""
    mine = pstore_lines([*MEMCG_REPORT, *panic_lines(COMPULSORY)], prefix="[ T5356]")
    other = pstore_lines(["CPU: 0 UID: 0 PID: 7 Comm: x Not tainted 6.18.44 #1"], prefix="[    C0]")
    write_pstore_records(tmp_path / "pstore", [line for own in mine for line in (*other, own)])
    (event,) = found()
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
def test_what_is_no_such_panic_is_not_told(found: Find, tmp_path: Path, lines: list[bytes]) -> None:
    """Another panic, a line that user space wrote, a kill."""
    write_pstore_records(tmp_path / "pstore", lines)
    assert found() == []


def test_an_oops_is_no_panic(found: Find, tmp_path: Path) -> None:
    """Only a record that was stored by a panic counts."""
    (path,) = write_pstore_records(tmp_path / "pstore", pstore_lines(panic_lines(COMPULSORY)))
    assert len(found()) == 1
    path.write_bytes(path.read_bytes().replace(b"Panic#1", b"Oops#1"))
    assert found() == []


def test_what_a_damaged_store_has_does_no_harm(found: Find, tmp_path: Path) -> None:
    """Noise, torn heads, links, pipes and folders beside a good record leave that one told."""
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
    (event,) = found()
    assert event.message == COMPULSORY
    assert "errors detected" not in event.original


def test_a_name_cannot_break_the_text(found: Find, tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are shown as such; a name that ends like the line stays a name."""
    lines = pstore_lines([*MEMCG_REPORT, *panic_lines(COMPULSORY)])
    name = b"a Not tainted \xff"
    lines = [line.replace(b"tail", name) for line in lines]
    write_pstore_records(tmp_path / "pstore", lines)
    (event,) = found()
    assert event.comm == r"a Not tainted \xff"
    assert r"\xff" in event.original


def test_the_text_is_bounded(found: Find, tmp_path: Path) -> None:
    """Of more than 32 Ki characters the end is told, in whole lines."""
    rows = ["[   5356]     0  5356     4701     4383     4000"] * 2000
    texts = [*MEMCG_REPORT, *rows, *panic_lines(COMPULSORY)]
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts))
    (event,) = found()
    assert len(event.original) <= 1 << 15
    lines = event.original.split("\n")
    assert lines[-1].endswith(texts[-1])
    assert all(line.startswith("[  50") for line in lines)


def test_the_journal_adds_what_was_before(found: Find, tmp_path: Path) -> None:
    """By one line that both have they are of one boot: its id, the report, the wall clock."""
    texts = [KILLED, *MEMCG_REPORT, *panic_lines(COMPULSORY)]
    kept = len(texts) - len(panic_lines(COMPULSORY)) - 3
    # The journal does not tell the callers, and has one line more than was stored.
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts, prefix="[ T5356]")[kept:])
    (event,) = found(journal_of_previous_boot(texts[: kept + 1]))
    assert event.boot_id == BOOT_ID
    assert event.decision is not None
    assert event.decision.memcg is not None
    at = BEGIN_NS + texts.index(panic_lines(COMPULSORY)[0]) * STEP_NS
    assert event.boottime_ns == at
    assert (event.time_unix_ns, event.time_source) == (UNIX_OFFSET_NS + at, "log")
    told = [line.partition("] ")[2].rstrip() for line in event.original.split("\n")]
    assert told == [text.rstrip() for text in texts[1:]]


def test_another_boots_journal_adds_nothing(found: Find, tmp_path: Path) -> None:
    """The same words at other times are another boot's."""
    texts = [*MEMCG_REPORT, *panic_lines(COMPULSORY)]
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts)[-20:])
    (event,) = found(journal_of_previous_boot(texts[:-15], BEGIN_NS + 1000))
    assert (event.boot_id, event.time_source) == ("", "record")
    assert event.decision is not None
    assert event.decision.order is None


def test_a_coincidence_makes_no_boot(found: Find, tmp_path: Path) -> None:
    """Two boots can print some line at one microsecond: most of them, they can't."""
    texts = [*MEMCG_REPORT, *panic_lines(COMPULSORY)]
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts))
    other = journal_of_previous_boot(texts[:-15], BEGIN_NS + 1000)
    (line, *_) = journal_of_previous_boot(texts[:1]).lines
    (event,) = found(replace(other, lines=(line, *other.lines)))
    assert event.boot_id == ""
    # Of the time from before the clock runs, both have the same lines.
    (event,) = found(
        replace(
            journal_of_previous_boot(texts[:5], 0),
            lines=journal_of_previous_boot(texts[:1], 0).lines,
        )
    )
    assert event.boot_id == ""


def test_a_journal_that_was_late_does_not_tell_the_time(found: Find, tmp_path: Path) -> None:
    """A panic is not later than its record."""
    texts = [*MEMCG_REPORT, *panic_lines(COMPULSORY)]
    write_pstore_records(tmp_path / "pstore", pstore_lines(texts))
    late = replace(journal_of_previous_boot(texts[:-15]), unix_offset_ns=UNIX_OFFSET_NS + 5 * 10**9)
    (event,) = found(late)
    assert (event.boot_id, event.time_source) == (BOOT_ID, "record")
    assert event.time_unix_ns == STORED_NS


def test_last_words_in_the_journal_are_enough(found: Find) -> None:
    """A panic that reached the disk is told without any store."""
    (event,) = found(journal_of_previous_boot([*HOST_REPORT, *panic_lines(SYSTEM_WIDE)]))
    assert (event.message, event.boot_id) == (SYSTEM_WIDE, BOOT_ID)
    assert event.capture.source == "journal"
    assert event.time_unix_ns == UNIX_OFFSET_NS + event.boottime_ns


@pytest.mark.parametrize(
    ("texts", "policy", "told"),
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
def test_a_report_that_ends_a_boot(found: Find, texts: list[str], policy: str, told: int) -> None:
    """It is a panic's where the kernel is set to panic of it, and where nobody was chosen."""
    events = found(journal_of_previous_boot(texts), backend=False, policy=policy)
    assert len(events) == told
    for event in events:
        assert event.message is None
        assert event.boottime_ns == BEGIN_NS
        assert (event.tid, event.boot_id) == (5356, BOOT_ID)
    assert found(journal_of_previous_boot(texts), backend=True, policy=policy) == []


def test_a_boot_that_went_on_did_not_panic(found: Find) -> None:
    """A report whose end was lost, long before the log's own, is nobody's end."""
    boot = journal_of_previous_boot([*HOST_REPORT, "usb 1-1: USB disconnect"], BEGIN_NS)
    late = boot.lines[-1]
    later = PreviousBoot(
        boot.boot_id,
        (*boot.lines[:-1], type(late)(late.text, late.time_ns + 120 * 10**9, late.sequence)),
        boot.unix_offset_ns,
    )
    assert found(boot, backend=False, policy="2")
    assert not found(later, backend=False, policy="2")


def test_a_log_without_times_is_named_by_its_record(found: Find, tmp_path: Path) -> None:
    """With printk.time=0 there is the record's own time alone."""
    lines = [b"<4>" + text.encode() for text in [*MEMCG_REPORT, *panic_lines(COMPULSORY)]]
    write_pstore_records(tmp_path / "pstore", lines)
    write_pstore_records(tmp_path / "pstore", lines, number=8_000_000_000, unix_ns=STORED_NS + 1)
    first, second = found()
    assert (first.tid, first.boottime_ns, first.time_unix_ns) == (5356, 0, STORED_NS)
    assert first.uid != second.uid


def test_records_that_are_still_packed_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What another kernel compressed is not dropped in silence."""
    (tmp_path / "dmesg-erst-1.enc.z").write_bytes(b"x")
    assert list(read_panic_dumps((tmp_path,))) == []
    assert "1 records" in caplog.text


def test_a_store_that_may_not_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is root's alone; a host that has none is no reason to say anything."""
    assert list(read_panic_dumps((tmp_path / "none",))) == []
    assert not caplog.records

    def refuse(_folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(f"{read_panic_dumps.__module__}.os.scandir", refuse)
    assert list(read_panic_dumps((tmp_path,))) == []
    assert str(tmp_path) in caplog.text
    assert "CAP_DAC_READ_SEARCH" in caplog.text


def test_a_store_is_there_or_not(tmp_path: Path) -> None:
    """The kernel's module tells its backend; a kernel without the module has none."""
    told = tmp_path / "backend"
    assert not has_backend(told)
    for value in ("(null)\n", "", "\n"):
        told.write_text(value, encoding="ascii")
        assert not has_backend(told)
    told.write_text("erst\n", encoding="ascii")
    assert has_backend(told)


def _looked(monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[Panic]]) -> list[Panic]:
    """What a look hands over, once its thread is done."""
    monkeypatch.setattr(panic_module, "find_panics", told)
    recorded: list[Panic] = []

    def record(event: Panic) -> bool:
        recorded.append(event)
        return True

    start_panic_scan(record, lambda: None)
    for thread in threading.enumerate():
        if thread.name == "panics":
            thread.join()
    return recorded


def test_what_is_found_is_recorded(
    monkeypatch: pytest.MonkeyPatch, found: Find, tmp_path: Path
) -> None:
    """The look is in a thread of its own and hands over each panic."""
    write_pstore_records(tmp_path / "pstore", pstore_lines(panic_lines(COMPULSORY)))
    events = found()
    assert _looked(monkeypatch, lambda: events) == events


def test_a_look_that_fails_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong with what was left, the agent goes on."""

    def broken() -> list[Panic]:
        raise OSError("input/output error")

    assert _looked(monkeypatch, broken) == []
    assert "input/output error" in caplog.text
