"""The wire format: the same layout on both sides, and hostile bytes taken calmly."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from otel_oom.capture import wire
from otel_oom.capture.symbols import SYMBOL_LEN
from otel_oom.capture.wire import Decoder, ExitRecord, VictimRecord, WireError
from otel_oom.event import OomKill, VictimExit
from tests.parts.need import need

MEMBER, OTHER = 0xFFFF0001, 0xFFFF0002
SYMBOLS = {MEMBER: "oom_kill_memcg_member+0x1", OTHER: "out_of_memory+0x2"}
DECODER = Decoder(
    boot_id="boot",
    source="libbpf",
    hook="tp_btf/mark_victim",
    symbol=lambda at: SYMBOLS.get(at, ""),
)
BPF = Path(__file__).parents[2] / "bpf"
UNIX_OFFSET_NS = 1_000_000_000_000

STRUCTURES = {
    "oom_header": wire.Header,
    "oom_task": wire.TaskRecord,
    "oom_memory": wire.MemoryRecord,
    "oom_path": wire.PathRecord,
    "oom_victim_record": wire.VictimRecord,
    "oom_exit_record": wire.ExitRecord,
    "oom_counters": wire.Counters,
}


@pytest.fixture(scope="module")
def btf(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The types of bpf/oom.h as the compiler lays them out for the kernel side."""
    bpftool = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin")
    need(bpftool and shutil.which("clang"), "clang and bpftool are needed to read the header")
    folder = tmp_path_factory.mktemp("layout")
    # Only what a variable has is in the type information.
    variables = [f"struct {name} {name};" for name in STRUCTURES]
    variables += ["enum oom_kind kind;", "enum oom_flag flag;"]
    source = folder / "layout.c"
    source.write_text("\n".join(['#include "kernel.h"', '#include "oom.h"', *variables, ""]))
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
    assert found, f"{name} is not in bpf/oom.h"
    structure = STRUCTURES[name]
    theirs = [(member["name"], member["bits_offset"] // 8) for member in found["members"]]
    ours = [(field[0], getattr(structure, field[0]).offset) for field in structure._fields_]
    assert ours == theirs
    assert ctypes.sizeof(structure) == found["size"]


def test_both_sides_have_the_same_numbers(btf: list[dict[str, Any]]) -> None:
    """Kinds and flags mean the same on both sides."""
    values = {v["name"]: v["val"] for t in btf if t["kind"] == "ENUM" for v in t["values"]}
    for ours, theirs in (
        (wire.KIND_VICTIM, "OOM_KIND_VICTIM"),
        (wire.KIND_EXIT, "OOM_KIND_EXIT"),
        (wire.FLAG_MEMCG_CUT, "OOM_FLAG_MEMCG_CUT"),
        (wire.FLAG_NO_MM, "OOM_FLAG_NO_MM"),
        (wire.FLAG_NO_MEMCG, "OOM_FLAG_NO_MEMCG"),
        (wire.FLAG_NO_TASK, "OOM_FLAG_NO_TASK"),
    ):
        assert values[theirs] == ours


def test_both_sides_have_the_same_sizes() -> None:
    """The header's constants are those that buffers are made by here."""
    header = (BPF / "oom.h").read_text(encoding="utf-8")
    defined = dict(re.findall(r"#define OOM_(\w+) (\d+)", header))
    assert {name: int(text) for name, text in defined.items()} == {
        "WIRE_VERSION": wire.WIRE_VERSION,
        "COMM_LEN": wire.COMM_LEN,
        "TEXT_LEN": wire.TEXT_LEN,
        "STACK_LEN": wire.STACK_LEN,
        "SYMBOL_LEN": SYMBOL_LEN,
    }


def victim(names: bytes = b"leaf\0parent\0", parts: int = 2, flags: int = 0) -> VictimRecord:
    """A victim's record, as the kernel side would write it."""
    record = VictimRecord()
    record.header.version = wire.WIRE_VERSION
    record.header.kind = wire.KIND_VICTIM
    record.header.size = VictimRecord.text.offset + len(names)
    record.header.boottime_ns = 500
    record.header.flags = flags
    record.header.cpu, record.header.sequence = 3, 7
    record.victim.tgid, record.victim.tid = 4711, 4712
    record.victim.comm = b"sleep"
    record.victim.score_adj = -998
    record.memory.anon = 4096
    record.memcg_id = 99
    record.memcg.len, record.memcg.parts = len(names), parts
    record.text = (ctypes.c_uint8 * wire.TEXT_LEN)(*names)
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


def test_a_cut_path_shows_that_it_is_cut() -> None:
    """A path too deep for the record does not pass for a whole one."""
    kill = decode(victim(flags=wire.FLAG_MEMCG_CUT))
    assert kill.memcg is not None
    assert (kill.memcg.path, kill.memcg.path_cut) == ("…/parent/leaf", True)


@pytest.mark.parametrize(
    ("flag", "part"), [(wire.FLAG_NO_MM, "memory"), (wire.FLAG_NO_MEMCG, "memcg")]
)
def test_what_the_kernel_did_not_know_is_absent(flag: int, part: str) -> None:
    """An unknown is none, never zeros."""
    assert getattr(decode(victim(flags=flag)), part) is None


def test_a_kernel_that_tells_only_a_pid() -> None:
    """Then the victim has its pid and nothing else."""
    task = decode(victim(flags=wire.FLAG_NO_TASK)).victim
    assert (task.tgid, task.tid, task.uid, task.comm, task.started_ns) == (4711, *[None] * 4)


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
    record.memcg.offset = record.memcg.len = 0xFFFF
    record.memcg.parts = 0xFFFFFFFF
    assert decode(record).memcg is not None


def test_an_exit_is_decoded() -> None:
    """An exit names its process by pid and start."""
    record = ExitRecord()
    record.header.version, record.header.kind = wire.WIRE_VERSION, wire.KIND_EXIT
    record.header.size, record.header.boottime_ns = ctypes.sizeof(ExitRecord), 900
    record.tgid, record.start_boottime_ns, record.exit_code = 4711, 100, 9
    expected = VictimExit(tgid=4711, started_ns=100, boottime_ns=900, exit_code=9)
    assert DECODER.decode(bytes(record), UNIX_OFFSET_NS) == expected


def _with(**header: int) -> bytes:
    record = victim()
    for name, value in header.items():
        setattr(record.header, name, value)
    return bytes(record)


CUT = bytes(victim())[: VictimRecord.text.offset + 3]


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 31, _with(version=2), _with(kind=9), _with(size=40), _with(size=9999), CUT],
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
