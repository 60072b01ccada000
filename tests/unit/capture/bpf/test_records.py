"""The wire format: the same layout in C and Python, and hostile bytes."""

from __future__ import annotations

import ctypes
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
    names=lambda stack: [SYMBOLS.get(address, "") for address in stack],
    decision_source="fentry/oom_kill_process",
    gfp_flags=hex,
)
BPF = REPOSITORY / "bpf"
UNIX_OFFSET_NS = 1_000_000_000_000
PAGE = os.sysconf("SC_PAGE_SIZE")

ENUMS = ("kind", "flag", "reaper_stage", "mapping_kind")
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
    "oom_lost_kills": records.LostKills,
    "oom_sysrq_request": records.SysrqRequest,
    "oom_user_text": records.UserTextRecord,
    "oom_start_text": records.StartTextRecord,
    "oom_mapping": records.MappingRecord,
    "oom_mappings": records.MappingsRecord,
}


@pytest.fixture(scope="module")
def btf(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the types of bpf/events.h as the compiler lays them out for BPF."""
    bpftool = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin")
    require(bpftool and shutil.which("clang"), "clang and bpftool are needed to read the header")
    folder = tmp_path_factory.mktemp("layout")
    # Only types of variables are in the type information.
    variables = [f"struct {name} {name};" for name in STRUCTURES]
    variables += [f"enum oom_{name} {name};" for name in ENUMS]
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
def test_python_and_c_have_one_layout(btf: list[dict[str, Any]], name: str) -> None:
    c_structure = next((t for t in btf if t["kind"] == "STRUCT" and t["name"] == name), None)
    assert c_structure, f"{name} is not in bpf/events.h"
    structure = STRUCTURES[name]
    c_offsets = [(member["name"], member["bits_offset"] // 8) for member in c_structure["members"]]
    offsets = [(field[0], getattr(structure, field[0]).offset) for field in structure._fields_]
    assert offsets == c_offsets
    assert ctypes.sizeof(structure) == c_structure["size"]


def test_python_and_c_have_the_same_enums(btf: list[dict[str, Any]]) -> None:
    values = {v["name"]: v["val"] for t in btf if t["kind"] == "ENUM" for v in t["values"]}
    ours = {
        f"OOM_{name}": value
        for name, value in vars(records).items()
        if name.startswith(("KIND_", "FLAG_"))
    }
    ours |= {f"OOM_MAPPING_{name.upper()}": v for v, name in records.MAPPING_KINDS.items()}
    ours |= {f"OOM_REAPER_{name.upper()}": value for value, name in records.STAGES.items()}
    assert {name: value for name, value in values.items() if name.startswith("OOM_")} == ours


def test_python_and_c_have_the_same_constants() -> None:
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
        "HOLDER_LEN": records.HOLDER_LEN,
        "UNIT_LEN": records.UNIT_LEN,
        "CHUNK_LEN": records.CHUNK_LEN,
        "ARGUMENT_CHUNKS": records.ARGUMENT_CHUNKS,
        "ENVIRON_CHUNKS": records.ENVIRON_CHUNKS,
        "START_TEXTS": records.START_TEXTS,
        "MAPPINGS": records.MAPPINGS,
        "MAPPING_NAME_LEN": records.MAPPING_NAME_LEN,
        "MAPPING_SLOTS": records.MAPPING_SLOTS,
    }


def victim_record(
    names: bytes = b"leaf\0parent\0", components: int = 2, flags: int = 0
) -> VictimRecord:
    """Return a victim's record as the kernel side writes it."""
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
    record.memcg.path.len, record.memcg.path.components = len(names), components
    record.text = (ctypes.c_uint8 * records.TEXT_LEN)(*names)
    return record


def decode(record: ctypes.Structure) -> OomKill:
    """Decode a record to a kill."""
    kill = DECODER.decode(bytes(record)[: record.header.size], UNIX_OFFSET_NS)
    assert isinstance(kill, OomKill)
    return kill


def test_victim_is_decoded() -> None:
    kill = decode(victim_record())
    assert (kill.victim.tgid, kill.victim.tid, kill.victim.comm) == (4711, 4712, "sleep")
    assert kill.victim.score_adj == -998
    assert kill.memory is not None
    assert kill.memory.anon == 4096
    assert kill.memcg is not None
    assert (kill.memcg.path, kill.memcg.id) == ("/parent/leaf", 99)
    assert (kill.boottime_ns, kill.time_unix_ns) == (500, UNIX_OFFSET_NS + 500)
    assert (kill.capture.cpu, kill.capture.sequence) == (3, 7)


def test_root_cgroup_is_a_slash() -> None:
    kill = decode(victim_record(b"", 0))
    assert kill.memcg is not None
    assert kill.memcg.path == "/"


def test_cgroup_usage_is_decoded_in_bytes() -> None:
    """The root cgroup has none, nor has an unknown one."""
    record = victim_record()
    record.memcg_usage.limit_pages, record.memcg_usage.usage_pages = 16, 15
    record.memcg_usage.swap_limit_pages, record.memcg_usage.swap_usage_pages = (1 << 63) // PAGE, 2
    assert decode(record).memcg_usage == MemcgUsage(16 * PAGE, 15 * PAGE, None, 2 * PAGE)
    assert roundtrip(decode(record)) == decode(record)
    assert decode(victim_record(b"", 0)).memcg_usage is None
    assert decode(victim_record(flags=records.FLAG_NO_MEMCG)).memcg_usage is None


def test_truncated_path_is_marked() -> None:
    kill = decode(victim_record(flags=records.FLAG_MEMCG_CUT))
    assert kill.memcg is not None
    assert (kill.memcg.path, kill.memcg.path_cut) == ("…/parent/leaf", True)


@pytest.mark.parametrize(
    ("flag", "part"), [(records.FLAG_NO_MM, "memory"), (records.FLAG_NO_MEMCG, "memcg")]
)
def test_unknown_parts_are_none(flag: int, part: str) -> None:
    assert getattr(decode(victim_record(flags=flag)), part) is None


def test_victim_without_a_task_has_only_its_pid() -> None:
    task = decode(victim_record(flags=records.FLAG_NO_TASK)).victim
    assert (task.tgid, task.tid, task.uid, task.comm, task.start_boottime_ns) == (4711, *[None] * 4)


def test_invalid_utf8_is_escaped() -> None:
    record = victim_record(b"a\xffb\0", 1)
    record.victim.comm = b"\xc3("
    kill = decode(record)
    assert kill.victim.comm == "\\xc3("
    assert kill.memcg is not None
    assert kill.memcg.path == "/a\\xffb"


def test_lengths_beyond_the_record_are_limited() -> None:
    record = victim_record()
    record.memcg.path.offset = record.memcg.path.len = 0xFFFF
    record.memcg.path.components = 0xFFFFFFFF
    assert decode(record).memcg is not None


def test_exit_is_decoded() -> None:
    record = ExitRecord()
    record.header.version, record.header.kind = records.WIRE_VERSION, records.KIND_EXIT
    record.header.size, record.header.boottime_ns = ctypes.sizeof(ExitRecord), 900
    record.tgid, record.start_boottime_ns, record.exit_code = 4711, 100, 9
    expected = VictimExit(tgid=4711, start_boottime_ns=100, boottime_ns=900, exit_code=9)
    assert DECODER.decode(bytes(record), UNIX_OFFSET_NS) == expected
    record.start_boottime_ns = 0
    expected = replace(expected, start_boottime_ns=None)
    assert DECODER.decode(bytes(record), UNIX_OFFSET_NS) == expected


def test_record_before_the_attachment_is_recovered() -> None:
    for since_ns, recovered in ((500, False), (501, True)):
        kill = replace(DECODER, since_ns=since_ns).decode(bytes(victim_record()), UNIX_OFFSET_NS)
        assert isinstance(kill, OomKill)
        assert (kill.boottime_ns, kill.capture.recovered) == (500, recovered)


def _with(**header: int) -> bytes:
    record = victim_record()
    for name, value in header.items():
        setattr(record.header, name, value)
    return bytes(record)


CUT = bytes(victim_record())[: VictimRecord.text.offset + 3]


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 31, _with(version=1), _with(kind=9), _with(size=40), _with(size=9999), CUT],
    ids=["empty", "half a header", "version", "kind", "too small", "too large", "cut"],
)
def test_malformed_record_is_an_error(data: bytes) -> None:
    with pytest.raises(WireError):
        DECODER.decode(data, UNIX_OFFSET_NS)


def test_members_of_a_group_are_one_incident() -> None:
    """They are killed by the same thread right after the first; others are not members."""

    def decoded(time_ns: int, tid: int, frame: int) -> OomKill:
        record = victim_record()
        record.header.boottime_ns, record.trigger.tid, record.stack[0] = time_ns, tid, frame
        return decode(record)

    first = decoded(1, 50, OTHER)
    members = [decoded(2, 50, MEMBER), decoded(3, 50, MEMBER)]
    assert [kill.incident for kill in (first, *members)] == [None, first.uid, first.uid]
    assert decoded(4, 50, OTHER).incident is None
    assert decoded(5, 51, MEMBER).incident is None


def test_victims_of_one_decision_are_one_incident() -> None:
    """By the decision's time, whatever the stack."""

    def decoded(time_ns: int, decision_ns: int) -> OomKill:
        record = victim_record()
        record.header.boottime_ns, record.decision.boottime_ns = time_ns, decision_ns
        return decode(record)

    first = decoded(11, 10)
    assert [decoded(12, 10).incident, decoded(21, 20).incident] == [first.uid, None]


def decision_record(flags: int = 0) -> VictimRecord:
    """Return a record with a decision, by a cgroup's limit of 16 pages."""
    record = victim_record(flags=flags)
    decision = record.decision
    decision.totalpages, decision.chosen_points, decision.order, decision.gfp_mask = (
        16,
        12,
        -1,
        0xCC0,
    )
    decision.constraint, decision.message = 3, b"Memory cgroup out of memory"
    limits = decision.limit_memcg_usage
    limits.limit_pages, limits.usage_pages, limits.swap_usage_pages = 16, 15, 1
    limits.swap_limit_pages = (1 << 63) // PAGE
    record.limit_memcg.id = 98
    record.limit_memcg.path.offset, record.limit_memcg.path.len = len(b"leaf\0"), len(b"parent\0")
    record.limit_memcg.path.components = 1
    return record


def test_decision_is_decoded() -> None:
    decision = decode(decision_record()).decision
    assert decision is not None
    assert decision.source == "fentry/oom_kill_process"
    assert (decision.constraint, decision.order, decision.points) == ("memcg", -1, 12)
    assert (decision.gfp_mask, decision.gfp_flags) == (0xCC0, "0xcc0")
    assert decision.total_memory == 16 * PAGE
    assert decision.message == "Memory cgroup out of memory"
    assert decision.memcg == Memcg(98, "/parent")
    assert decision.memcg_usage == MemcgUsage(16 * PAGE, 15 * PAGE, None, PAGE)


def test_missing_decision_and_cgroup_are_none() -> None:
    assert decode(decision_record(records.FLAG_NO_DECISION)).decision is None
    decision = decode(decision_record(records.FLAG_NO_LIMIT_MEMCG)).decision
    assert decision is not None
    assert (decision.memcg, decision.memcg_usage) == (None, None)


def test_skipped_victim_and_no_victim_are_decoded() -> None:
    record = decision_record()
    record.header.kind = records.KIND_SKIPPED
    assert decode(record).skipped
    record.header.kind, record.decision.repeats = records.KIND_NO_VICTIM, 4
    event = DECODER.decode(bytes(record)[: record.header.size], UNIX_OFFSET_NS)
    assert isinstance(event, NoVictim)
    assert event.repeat_count == 4
    assert event.decision is not None
    assert event.decision.points is None


def test_record_without_stacks_has_its_text_in_their_place() -> None:
    record = victim_record(flags=records.FLAG_NO_STACKS)
    names = bytes(record)[VictimRecord.text.offset : record.header.size]
    record.header.size = VictimRecord.user_stack.offset + len(names)
    data = bytes(record)[: VictimRecord.user_stack.offset] + names
    kill = DECODER.decode(data, UNIX_OFFSET_NS)
    assert isinstance(kill, OomKill)
    assert kill.memcg is not None
    assert kill.memcg.path == "/parent/leaf"
    assert (kill.stack, kill.user_stack) == ((), ())


def test_command_and_user_frames_are_decoded() -> None:
    """A frame without a build id, or before its file, is skipped."""
    record = victim_record(b"java\0-jar\0\0x.jar\0", 0)
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


def test_reaper_step_is_decoded() -> None:
    record = ReaperRecord()
    record.header.version, record.header.kind = records.WIRE_VERSION, records.KIND_REAPER
    record.header.size, record.header.boottime_ns = ctypes.sizeof(ReaperRecord), 900
    record.tgid, record.start_boottime_ns, record.stage = 4711, 100, 3
    record.memory.anon, record.memory.shmem = 4096, 8192
    assert DECODER.decode(bytes(record), 0) == ReaperStep(4711, 100, 900, "finish", 12288)
    record.stage = 9
    with pytest.raises(WireError):
        DECODER.decode(bytes(record), 0)
