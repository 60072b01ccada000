"""The wire format: the same layout on both sides, and hostile bytes taken calmly."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import re
import shutil
import subprocess
from typing import Any

import pytest
from msgspec.structs import replace

from otel_oom.capture.bpf import records
from otel_oom.capture.bpf.decoder import Decoder, WireError
from otel_oom.capture.bpf.ksyms import SYMBOL_LEN
from otel_oom.capture.bpf.records import ExitRecord, ReaperRecord, VictimRecord
from otel_oom.model.events import NoVictim, OomKill, ReaperStep, VictimExit
from otel_oom.model.types import Memcg, MemcgUsage, UserFrame
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require
from tests.testlib.samples.events import roundtrip

MEMBER, OTHER = 0xFFFF0001, 0xFFFF0002
SYMBOLS = {MEMBER: "oom_kill_memcg_member+0x1", OTHER: "out_of_memory+0x2"}
DECODER = Decoder(
    boot_id="boot",
    source="libbpf",
    hook="tp_btf/mark_victim",
    names=lambda stack: [SYMBOLS.get(at, "") for at in stack],
    decision_source="fentry/oom_kill_process",
    gfp_flags=hex,
)
BPF = REPOSITORY / "bpf"
UNIX_OFFSET_NS = 1_000_000_000_000
PAGE = os.sysconf("SC_PAGE_SIZE")

STRUCTURES = {
    "oom_header": records.Header,
    "oom_task": records.TaskRecord,
    "oom_memory": records.MemoryRecord,
    "oom_path": records.PathRecord,
    "oom_victim_record": records.VictimRecord,
    "oom_exit_record": records.ExitRecord,
    "oom_memcg": records.MemcgRecord,
    "oom_memcg_usage": records.MemcgUsageRecord,
    "oom_mark": records.MarkRecord,
    "oom_decision": records.DecisionRecord,
    "oom_user_frame": records.UserFrameRecord,
    "oom_reaper_record": records.ReaperRecord,
    "oom_counters": records.Counters,
}


@pytest.fixture(scope="module")
def btf(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The types of bpf/events.h as the compiler lays them out for the kernel side."""
    bpftool = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin")
    require(bpftool and shutil.which("clang"), "clang and bpftool are needed to read the header")
    folder = tmp_path_factory.mktemp("layout")
    # Only what a variable has is in the type information.
    variables = [f"struct {name} {name};" for name in STRUCTURES]
    variables += [f"enum oom_{name} {name};" for name in ("kind", "flag", "reaper_stage")]
    source = folder / "layout.c"
    source.write_text(
        "\n".join(['#include "vmlinux_min.h"', '#include "events.h"', *variables, ""])
    )
    subprocess.run(
        ["clang", "-target", "bpf", "-g", "-I", BPF, "-c", source, "-o", folder / "layout.o"],
        check=True,
    )
    out = subprocess.run(
        [str(bpftool), "-j", "btf", "dump", "file", folder / "layout.o"],
        check=True,
        capture_output=True,
    ).stdout
    types: list[dict[str, Any]] = json.loads(out)["types"]
    return types


@pytest.mark.parametrize("name", STRUCTURES)
def test_both_sides_have_one_layout(btf: list[dict[str, Any]], name: str) -> None:
    """Every member stands where the compiler put it, and each structure has its size."""
    found = next((t for t in btf if t["kind"] == "STRUCT" and t["name"] == name), None)
    assert found, f"{name} is not in bpf/events.h"
    structure = STRUCTURES[name]
    theirs = [(member["name"], member["bits_offset"] // 8) for member in found["members"]]
    ours = [(field[0], getattr(structure, field[0]).offset) for field in structure._fields_]
    assert ours == theirs
    assert ctypes.sizeof(structure) == found["size"]


def test_both_sides_have_the_same_numbers(btf: list[dict[str, Any]]) -> None:
    """Kinds and flags mean the same on both sides."""
    values = {v["name"]: v["val"] for t in btf if t["kind"] == "ENUM" for v in t["values"]}
    ours = {
        f"OOM_{name}": value
        for name, value in vars(records).items()
        if name.startswith(("KIND_", "FLAG_"))
    }
    ours |= {f"OOM_REAPER_{name.upper()}": value for value, name in records.STAGES.items()}
    assert {name: value for name, value in values.items() if name.startswith("OOM_")} == ours


def test_both_sides_have_the_same_sizes() -> None:
    """The header's constants are those that buffers are made by here."""
    header = (BPF / "events.h").read_text(encoding="utf-8")
    defined = dict(re.findall(r"#define OOM_(\w+) (\d+)", header))
    assert {name: int(text) for name, text in defined.items()} == {
        "WIRE_VERSION": records.WIRE_VERSION,
        "COMM_LEN": records.COMM_LEN,
        "TEXT_LEN": records.TEXT_LEN,
        "STACK_LEN": records.STACK_LEN,
        "SYMBOL_LEN": SYMBOL_LEN,
        "MESSAGE_LEN": records.MESSAGE_LEN,
        "USER_STACK_LEN": records.USER_STACK_LEN,
        "BUILD_ID_LEN": records.BUILD_ID_LEN,
        "MAX_MARKS": records.MAX_MARKS,
    }


def victim(names: bytes = b"leaf\0parent\0", parts: int = 2, flags: int = 0) -> VictimRecord:
    """A victim's record, as the kernel side would write it."""
    record = VictimRecord()
    record.header.version = records.WIRE_VERSION
    record.header.kind = records.KIND_VICTIM
    record.header.size = VictimRecord.text.offset + len(names)
    record.header.boottime_ns = 500
    record.header.flags = flags
    record.header.cpu, record.header.sequence = 3, 7
    record.victim.tgid, record.victim.tid = 4711, 4712
    record.victim.comm = b"sleep"
    record.victim.score_adj = -998
    record.memory.anon = 4096
    record.memcg.id = 99
    record.memcg.path.len, record.memcg.path.components = len(names), parts
    record.text = (ctypes.c_uint8 * records.TEXT_LEN)(*names)
    return record


def decode(record: ctypes.Structure) -> OomKill:
    """``record`` as the event it must be."""
    kill = DECODER.decode(bytes(record)[: record.header.size], UNIX_OFFSET_NS)
    assert isinstance(kill, OomKill)
    return kill


def test_a_victim_is_decoded() -> None:
    """Every part of the record is where it belongs in the event."""
    kill = decode(victim())
    assert (kill.victim.tgid, kill.victim.tid, kill.victim.comm) == (4711, 4712, "sleep")
    assert kill.victim.score_adj == -998
    assert kill.memory is not None
    assert kill.memory.anon == 4096
    assert kill.memcg is not None
    assert (kill.memcg.path, kill.memcg.id) == ("/parent/leaf", 99)
    assert (kill.boottime_ns, kill.time_unix_ns) == (500, UNIX_OFFSET_NS + 500)
    assert (kill.capture.cpu, kill.capture.sequence) == (3, 7)


def test_the_root_cgroup_is_a_slash() -> None:
    """A process in no cgroup of its own is in ``/``."""
    kill = decode(victim(b"", 0))
    assert kill.memcg is not None
    assert kill.memcg.path == "/"


def test_the_limits_of_its_cgroup_are_decoded() -> None:
    """In bytes; the root has none, nor has a victim whose cgroup is not known."""
    record = victim()
    record.memcg_usage.limit_pages, record.memcg_usage.usage_pages = 16, 15
    record.memcg_usage.swap_limit_pages, record.memcg_usage.swap_usage_pages = (1 << 63) // PAGE, 2
    assert decode(record).memcg_usage == MemcgUsage(16 * PAGE, 15 * PAGE, None, 2 * PAGE)
    assert roundtrip(decode(record)) == decode(record)
    assert decode(victim(b"", 0)).memcg_usage is None
    assert decode(victim(flags=records.FLAG_NO_MEMCG)).memcg_usage is None


def test_a_cut_path_shows_that_it_is_cut() -> None:
    """A path too deep for the record does not pass for a whole one."""
    kill = decode(victim(flags=records.FLAG_MEMCG_CUT))
    assert kill.memcg is not None
    assert (kill.memcg.path, kill.memcg.path_cut) == ("…/parent/leaf", True)


@pytest.mark.parametrize(
    ("flag", "part"), [(records.FLAG_NO_MM, "memory"), (records.FLAG_NO_MEMCG, "memcg")]
)
def test_what_the_kernel_did_not_know_is_absent(flag: int, part: str) -> None:
    """An unknown is none, never zeros."""
    assert getattr(decode(victim(flags=flag)), part) is None


def test_a_kernel_that_tells_only_a_pid() -> None:
    """Then the victim has its pid and nothing else."""
    task = decode(victim(flags=records.FLAG_NO_TASK)).victim
    assert (task.tgid, task.tid, task.uid, task.comm, task.start_boottime_ns) == (4711, *[None] * 4)


def test_names_that_are_no_utf8_stay_readable() -> None:
    """Bytes that are not text stand as escapes, in comm and in paths."""
    record = victim(b"a\xffb\0", 1)
    record.victim.comm = b"\xc3("
    kill = decode(record)
    assert kill.victim.comm == "\\xc3("
    assert kill.memcg is not None
    assert kill.memcg.path == "/a\\xffb"


def test_lengths_beyond_the_record_are_harmless() -> None:
    """A path length larger than the path reads no further than the record."""
    record = victim()
    record.memcg.path.offset = record.memcg.path.len = 0xFFFF
    record.memcg.path.components = 0xFFFFFFFF
    assert decode(record).memcg is not None


def test_an_exit_is_decoded() -> None:
    """An exit names its process by pid and start."""
    record = ExitRecord()
    record.header.version, record.header.kind = records.WIRE_VERSION, records.KIND_EXIT
    record.header.size, record.header.boottime_ns = ctypes.sizeof(ExitRecord), 900
    record.tgid, record.start_boottime_ns, record.exit_code = 4711, 100, 9
    expected = VictimExit(tgid=4711, start_boottime_ns=100, boottime_ns=900, exit_code=9)
    assert DECODER.decode(bytes(record), UNIX_OFFSET_NS) == expected
    record.start_boottime_ns = 0
    expected = replace(expected, start_boottime_ns=None)
    assert DECODER.decode(bytes(record), UNIX_OFFSET_NS) == expected


def test_what_was_before_the_source_is_late() -> None:
    """A record's time says whether there was somebody to take it."""
    for since_ns, late in ((500, False), (501, True)):
        kill = dataclasses.replace(DECODER, since_ns=since_ns).decode(
            bytes(victim()), UNIX_OFFSET_NS
        )
        assert isinstance(kill, OomKill)
        assert (kill.boottime_ns, kill.capture.recovered) == (500, late)


def _with(**header: int) -> bytes:
    record = victim()
    for name, value in header.items():
        setattr(record.header, name, value)
    return bytes(record)


CUT = bytes(victim())[: VictimRecord.text.offset + 3]


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 31, _with(version=1), _with(kind=9), _with(size=40), _with(size=9999), CUT],
    ids=["empty", "half a header", "version", "kind", "too small", "too large", "cut"],
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    """Anything else is an error that says what it was, and no event."""
    with pytest.raises(WireError):
        DECODER.decode(data, UNIX_OFFSET_NS)


def test_the_members_of_a_group_are_one_incident() -> None:
    """What the same thread kills as a group's members belongs to the kill before; others do not."""

    def decoded(at: int, tid: int, frame: int) -> OomKill:
        record = victim()
        record.header.boottime_ns, record.trigger.tid, record.stack[0] = at, tid, frame
        return decode(record)

    first = decoded(1, 50, OTHER)
    members = [decoded(2, 50, MEMBER), decoded(3, 50, MEMBER)]
    assert [kill.incident for kill in (first, *members)] == [None, first.uid, first.uid]
    assert decoded(4, 50, OTHER).incident is None
    assert decoded(5, 51, MEMBER).incident is None


def test_what_one_decision_kills_is_one_incident() -> None:
    """Where the decision itself is told, its instant joins its victims, whatever the stack says."""

    def decoded(at: int, decided: int) -> OomKill:
        record = victim()
        record.header.boottime_ns, record.decision.boottime_ns = at, decided
        return decode(record)

    first = decoded(11, 10)
    assert [decoded(12, 10).incident, decoded(21, 20).incident] == [first.uid, None]


def decided(flags: int = 0) -> VictimRecord:
    """A record with a decision, by a cgroup's limit of 16 pages."""
    record = victim(flags=flags)
    told = record.decision
    told.totalpages, told.chosen_points, told.order, told.gfp_mask = 16, 12, -1, 0xCC0
    told.constraint, told.message = 3, b"Memory cgroup out of memory"
    limits = told.limit_memcg_usage
    limits.limit_pages, limits.usage_pages, limits.swap_usage_pages = 16, 15, 1
    limits.swap_limit_pages = (1 << 63) // PAGE
    record.limit_memcg.id = 98
    record.limit_memcg.path.offset, record.limit_memcg.path.len = len(b"leaf\0"), len(b"parent\0")
    record.limit_memcg.path.components = 1
    return record


def test_a_decision_is_decoded() -> None:
    """Pages become bytes, numbers names, and no limit is none."""
    decision = decode(decided()).decision
    assert decision is not None
    assert decision.source == "fentry/oom_kill_process"
    assert (decision.constraint, decision.order, decision.points) == ("memcg", -1, 12)
    assert (decision.gfp_mask, decision.gfp_flags) == (0xCC0, "0xcc0")
    assert decision.total_memory == 16 * PAGE
    assert decision.message == "Memory cgroup out of memory"
    assert decision.memcg == Memcg(98, "/parent")
    assert decision.memcg_usage == MemcgUsage(16 * PAGE, 15 * PAGE, None, PAGE)


def test_a_decision_that_is_not_told_is_absent() -> None:
    """Neither is the cgroup of one for the host."""
    assert decode(decided(records.FLAG_NO_DECISION)).decision is None
    decision = decode(decided(records.FLAG_NO_LIMIT_MEMCG)).decision
    assert decision is not None
    assert (decision.memcg, decision.memcg_usage) == (None, None)


def test_who_was_skipped_and_nobody_at_all_are_told_as_such() -> None:
    """The same layout of another kind is another event."""
    record = decided()
    record.header.kind = records.KIND_SKIPPED
    assert decode(record).skipped
    record.header.kind, record.decision.repeats = records.KIND_NO_VICTIM, 4
    event = DECODER.decode(bytes(record)[: record.header.size], UNIX_OFFSET_NS)
    assert isinstance(event, NoVictim)
    assert event.repeat_count == 4
    assert event.decision is not None
    assert event.decision.points is None


def test_words_and_user_frames_are_decoded() -> None:
    """Words end at their NUL; a frame without a build id, or in front of its file, is none."""
    record = victim(b"java\0-jar\0\0x.jar\0", 0)
    record.command.len = len(b"java\0-jar\0\0x.jar\0")
    for frame in record.user_stack[:3]:
        frame.build_id[:] = range(20)
        frame.offset = 0x1234
    record.user_stack[1].status = record.user_stack[2].status = 1
    record.user_stack[2].offset = (1 << 64) - 4096
    kill = decode(record)
    assert kill.victim.command == ("java", "-jar", "", "x.jar")
    assert kill.user_stack == (UserFrame(bytes(range(20)).hex(), 0x1234),)
    record.header.flags = records.FLAG_NO_COMMAND
    assert decode(record).victim.command is None


def test_a_step_of_the_reaper_is_decoded() -> None:
    """What the victim still holds is its resident memory; a stage that is not known is refused."""
    record = ReaperRecord()
    record.header.version, record.header.kind = records.WIRE_VERSION, records.KIND_REAPER
    record.header.size, record.header.boottime_ns = ctypes.sizeof(ReaperRecord), 900
    record.tgid, record.start_boottime_ns, record.stage = 4711, 100, 3
    record.memory.anon, record.memory.shmem = 4096, 8192
    assert DECODER.decode(bytes(record), 0) == ReaperStep(4711, 100, 900, "finish", 12288)
    record.stage = 9
    with pytest.raises(WireError):
        DECODER.decode(bytes(record), 0)
