"""Names of addresses and flags of the running kernel, compared with the kernel's own."""

from __future__ import annotations

import os
import random
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_oom.capture.bpf.ksyms import KernelSymbolizer
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.linux.gfp_flags import FORMAT_FILES, GfpFlagNames
from otel_oom.model.events import CapturedEvent, OomKill
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.require import require

pytestmark = pytest.mark.usefixtures("real_kills")

KALLSYMS = Path("/proc/kallsyms")
DRAIN_S = 10.0

HOG = """
#include <stdlib.h>
__attribute__((noinline)) static void fill(volatile char *at) { for (;; at += 4096) *at = 1; }
__attribute__((noinline)) void run(void) { fill(malloc(1ul << 30)); __asm__ volatile(""); }
int main(void) { run(); return 0; }
"""


@pytest.fixture
def loaded() -> Iterator[BpfObject]:
    """Load the kernel side, which resolves an address on request."""
    with LibbpfSource() as source:
        loaded = source._object  # noqa: SLF001  as KernelSymbolizer gets it
        assert isinstance(loaded, BpfObject)
        yield loaded


@pytest.fixture(scope="module")
def functions() -> list[int]:
    """Return the addresses of the running kernel's functions, with its modules."""
    addresses = []
    with KALLSYMS.open(encoding="ascii") as lines:
        for line in lines:
            address, kind, *_ = line.split()
            if kind in "tT":
                addresses.append(int(address, 16))
    require(any(addresses), "the kernel hides its addresses: kernel.kptr_restrict is 2, or no root")
    return addresses


def test_bpf_and_kallsyms_give_the_same_names(loaded: BpfObject, functions: list[int]) -> None:
    """At the first byte of a function, the caller is the function before it."""
    chosen = random.Random(0).sample(functions, 300)  # noqa: S311  no secret
    with KALLSYMS.open(encoding="ascii") as lines:
        # Of modules and of BPF programs, which are newer than the fixture.
        chosen += [int(line.split()[0], 16) for line in lines if line.rstrip().endswith("]")][:50]
    addresses = [start + more for start in chosen for more in (1, 5)]
    addresses += chosen[:300]
    symbolizer = KernelSymbolizer(loaded)
    names = symbolizer.names(addresses)
    require(any(names), "this kernel has no bpf_snprintf(), there is one way only")
    assert KernelSymbolizer(None).names(addresses) == names
    assert [symbolizer.name(address) for address in addresses[:9]] == names[:9]


def test_names_are_in_the_order_of_their_addresses(functions: list[int]) -> None:
    with KALLSYMS.open(encoding="ascii") as lines:
        fields = next(line.split() for line in lines if line.split()[2] == "oom_kill_process")
    start = int(fields[0], 16)
    expected = ["oom_kill_process+0x10", "", "oom_kill_process+0x4", "oom_kill_process+0x10", ""]
    assert KernelSymbolizer(None).names([start + 16, 0, start + 4, start + 16, 0xFFF]) == expected
    assert start in functions


def test_kallsyms_is_read_once_for_a_stack(tmp_path: Path) -> None:
    """Modules, which come last, are in no order of addresses."""
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_text(
        "0000000000000000 A fixed_percpu_data\n"
        "ffffffff81000000 T _stext\n"
        "ffffffff81000100 T second\n"
        "ffffffff81000100 t alias\n"
        "ffffffffc0000800 t later\t[xfs]\n"
        "ffffffffc0000000 t sooner\t[ext4]\n"
        "ffffffffc0001000 t bpf_prog_01_x\t[bpf]\n"
        "ffffffffc0002000 t ftrace_trampoline\t[__builtin__ftrace]\n",
        encoding="ascii",
    )
    symbols = KernelSymbolizer(None, kallsyms)
    stack = [0xFFFFFFFF81000101, 0xFFFFFFFFC0000801, 0xFFFFFFFFC0000800, 0xFFFFFFFF81000100]
    stack += [0xFFFFFFFFC0001001, 0xFFFFFFFFC0002001]
    names = ["second+0x1", "later+0x1 [xfs]", "sooner+0x800 [ext4]", "_stext+0x100"]
    names += ["bpf_prog_01_x+0x1", ""]
    assert symbols.names(stack) == names
    kallsyms.unlink()
    assert symbols.names(stack) == names


@pytest.mark.parametrize(
    "text",
    ["", "0000000000000000 T _stext\n0000000000000000 t second\n", "ffffffff\n\n", "\xff" * 4096],
    ids=["empty", "hidden", "truncated", "noise"],
)
def test_no_names_without_kallsyms(tmp_path: Path, text: str) -> None:
    """Hidden addresses (kernel.kptr_restrict) give no name by the last row of zeros."""
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_text(text, encoding="latin-1")
    assert KernelSymbolizer(None, kallsyms).names([0xFFFFFFFF81000101, 1]) == ["", ""]
    assert KernelSymbolizer(None, tmp_path / "missing").names([0xFFFFFFFF81000101]) == [""]


def capture_kill_of(command: list[str | Path], limit: int = 16 << 20) -> tuple[OomKill, str]:
    """Return the kill of a program at its cgroup's limit, and the kernel log of that time."""
    events: list[CapturedEvent] = []
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.lseek(log, 0, os.SEEK_END)
    try:
        with LibbpfSource() as source, own_memcg(limit) as memcg:
            enter: list[str | Path] = ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', memcg.procs]
            with subprocess.Popen([*enter, *command]) as process:
                assert process.wait(60) == -signal.SIGKILL
            deadline = time.monotonic() + DRAIN_S
            while not (kills := [it for it in events if isinstance(it, OomKill)]):
                assert time.monotonic() < deadline, events
                select.select([source], [], [], 0.1)
                source.drain(events.append)
        text = b""
        try:
            while True:
                text += os.read(log, 8192)
        except BlockingIOError:
            pass
    finally:
        os.close(log)
    (kill,) = (it for it in kills if it.victim.tgid == process.pid)
    return kill, text.decode("utf-8", "replace")


@pytest.fixture
def formats(tmp_path: Path) -> Iterator[tuple[Path, ...]]:
    """Return the tracepoint's format files; tracefs is mounted if it is not."""
    if any(os.access(path, os.R_OK) for path in FORMAT_FILES):
        yield FORMAT_FILES
        return
    mounted = subprocess.run(
        ["mount", "-t", "tracefs", "none", tmp_path], check=False, capture_output=True, text=True
    )
    require(mounted.returncode == 0, f"tracefs can't be mounted: {mounted.stderr.strip()}")
    try:
        yield (tmp_path / "events/kmem/mm_page_alloc/format",)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_gfp_flags_are_those_of_the_kernel_log(formats: tuple[Path, ...]) -> None:
    # The kernel prints at most ten reports in five seconds.
    for _ in range(4):
        _, log = capture_kill_of(["tail", "/dev/zero"])
        logged = re.findall(r"gfp_mask=(0x[0-9a-f]+)\(([^)]*)\)", log)
        if logged:
            break
        time.sleep(5)
    assert logged
    names = GfpFlagNames(formats)
    assert [names.format_mask(int(mask, 16)) for mask, _ in logged] == [text for _, text in logged]


@pytest.mark.parametrize("strip", [False, True], ids=["whole", "stripped"])
def test_user_stack_is_symbolized(tmp_path: Path, *, strip: bool) -> None:
    """Of a stripped program the file and an offset remain, which is in the function."""
    require(shutil.which("clang") and shutil.which("strip"), "clang and binutils are needed")
    program = tmp_path / "hog"
    source = tmp_path / "hog.c"
    source.write_text(HOG, encoding="ascii")
    flags = ["-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-Wl,--build-id"]
    subprocess.run(["clang", *flags, source, "-o", program], check=True)
    symbols = subprocess.run(["nm", "-S", program], check=True, capture_output=True, text=True)
    start, size = (int(it, 16) for it in re.findall(r"(\w+) (\w+) t fill", symbols.stdout)[0])
    if strip:
        subprocess.run(["strip", program], check=True)
    kill, _ = capture_kill_of([program])
    assert kill.user_stack, "the kernel gave no user stack"
    lines = UserSymbolizer(tmp_path, timeout_s=60).symbolize(kill.user_stack, ["/hog"])
    if strip:
        name, _, offset = lines[0].partition("+")
        assert name == "hog"
        # The linker's default: code of a position-independent program is at its own offset.
        assert start <= int(offset, 16) < start + size
    else:
        assert re.fullmatch(r"fill\+0x[0-9a-f]+ \(hog\)", lines[0])
        assert [line.partition("+")[0] for line in lines[1:3]] == ["run", "main"]
