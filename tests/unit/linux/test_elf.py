"""Executables read as binutils read them, and broken ones taken calmly."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import subprocess
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_oom.linux.elf import ElfFile, read_elf
from otel_oom.linux.elf_symbols import Symbol, find_symbols
from otel_oom.model.text import decode_bytes, escape_nonprintable
from tests.testlib.require import require

CODE = """
__attribute__((noinline)) static int hidden(int x) { __asm__ volatile(""); return x + 1; }
__attribute__((noinline, visibility("default"))) int shown(int x) { return hidden(x) * 3; }
extern int also_shown(int) __attribute__((alias("shown")));
extern int __shown(int) __attribute__((alias("shown")));
__asm__(".text\\n.type bare,@function\\nbare: nop\\n nop\\n nop\\n nop\\n"
        ".type sized,@function\\nsized: nop\\n nop\\n.size sized, .-sized\\n nop\\n nop\\n");
"""


@contextmanager
def opened(path: Path) -> Iterator[ElfFile]:
    """The file, which must be one that can be read."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        file = read_elf(fd)
        assert file is not None
        yield file
    finally:
        os.close(fd)


def output(*command: str | Path) -> str:
    """What a program of binutils or LLVM says."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def build(folder: Path, machine: str) -> Path:
    """A library of known functions, whose code is not at its own file offset."""
    require(shutil.which("clang") and shutil.which("readelf"), "clang and binutils are needed")
    require(machine == "-m64" or os.uname().machine == "x86_64", "its compiler makes 32 bits too")
    (folder / "code.c").write_text(CODE, encoding="ascii")
    library = folder / "libcode.so"
    flags = [machine, "-O1", "-shared", "-nostdlib", "-fPIC", "-Wl,--build-id"]
    base = "-Wl,-Ttext-segment=0x700000"
    subprocess.run(["clang", *flags, base, folder / "code.c", "-o", library], check=True)
    return library


@pytest.fixture(params=["-m64", "-m32"])
def built(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Such a library of either class."""
    return build(tmp_path, request.param)


def functions(path: Path, table: str = "--syms") -> list[tuple[str, int, int]]:
    """Each defined function's name, start and size, as readelf(1) has them."""
    found = []
    for line in output("readelf", "-W", table, path).splitlines():
        words = line.split()
        if len(words) > 7 and words[3] in ("FUNC", "IFUNC") and words[6] != "UND":
            found.append((words[7].partition("@")[0], int(words[1], 16), int(words[2], 0)))
    return found


def spans(path: Path) -> dict[str, tuple[int, int]]:
    """The start and size of each of our own functions."""
    return {name: (start, size) for name, start, size in functions(path)}


def libraries() -> list[Path]:
    """What this very process has mapped, of whichever makers."""
    with Path("/proc/self/maps").open(encoding="utf-8") as maps:
        paths = {line.split()[5] for line in maps if " r-xp " in line and "/" in line}
    return sorted(Path(path) for path in paths if Path(path).is_file())


def test_build_ids_are_those_of_readelf() -> None:
    """Of every file that this process runs on; one without a build id is none."""
    require(shutil.which("readelf"), "readelf is the oracle")
    for path in libraries():
        said = re.search(r"Build ID: (\w+)", output("readelf", "-n", path))
        fd = os.open(path, os.O_RDONLY)
        file = read_elf(fd)
        os.close(fd)
        assert (file.build_id.hex() if file else None) == (said[1] if said else None), path


def test_every_exported_function_of_a_library_is_found() -> None:
    """The C library's, by their first and last bytes; a name is one of those at that address."""
    require(shutil.which("readelf"), "readelf is the oracle")
    (libc,) = (path for path in libraries() if path.name.startswith(("libc.so", "libc-")))
    known = [it for it in functions(libc, "--dyn-syms") if it[2]]
    assert len(known) > 1000
    with opened(libc) as file:
        for last in (False, True):
            asked = [start + (size - 1 if last else 0) for _, start, size in known]
            found = find_symbols(file, asked, exported=True)
            for address, (_, start, size) in zip(asked, known, strict=True):
                symbol = found[address]
                begins = address - symbol.distance
                # The same by another name, or one that begins inside of it.
                assert start <= begins < start + size
                assert any(it[:2] == (symbol.name, begins) for it in known), symbol


def test_functions_that_are_not_exported_are_found_too(built: Path) -> None:
    """A static function, and of one with several names the plainest."""
    known = spans(built)
    with opened(built) as file:
        hidden, shown = known["hidden"][0], known["shown"][0]
        found = find_symbols(file, [hidden + 1, shown, shown + known["shown"][1]])
        assert found[hidden + 1] == Symbol("hidden", 1)
        assert found[shown] == Symbol("shown", 0)
        assert known["shown"] == known["__shown"] == known["also_shown"]
        exported = find_symbols(file, [hidden + 1, shown], exported=True)
        assert exported == {shown: Symbol("shown", 0)}


def test_behind_a_functions_end_is_no_function(built: Path) -> None:
    """A size ends a function; one without a size goes on to the next."""
    known = spans(built)
    with opened(built) as file:
        bare, (sized, size) = known["bare"][0], known["sized"]
        assert (known["bare"][1], size) == (0, 2)
        found = find_symbols(file, [bare, sized - 1, sized + 1, sized + size])
        assert found == {
            bare: Symbol("bare", 0),
            sized - 1: Symbol("bare", sized - 1 - bare),
            sized + 1: Symbol("sized", 1),
        }


def test_file_offsets_are_led_to_addresses(built: Path) -> None:
    """As readelf has them of the section of code; what is not code has none."""
    sections = output("readelf", "-WS", built)
    (section,) = re.findall(r" \.text +PROGBITS +(\w+) (\w+) (\w+)", sections)
    address, offset, size = (int(digits, 16) for digits in section)
    assert address != offset
    with opened(built) as file:
        assert file.virtual_address(offset) == address
        assert file.virtual_address(offset + size - 1) == address + size - 1
        assert file.virtual_address(0) is None
        assert file.virtual_address(1 << 40) is None


def test_broken_files_are_none_and_cost_little(built: Path) -> None:
    """A thousand mutations: no exception, and never much memory."""
    whole = built.read_bytes()
    rng = random.Random(0)  # noqa: S311  no secret
    read = 0
    tracemalloc.start()
    try:
        for _ in range(1000):
            data = bytearray(whole)
            for _ in range(rng.randrange(1, 24)):
                # Where the headers are, mostly.
                at = rng.choice((rng.randrange(0x240), rng.randrange(len(data))))
                data[at] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
            if rng.random() < 0.3:
                del data[rng.randrange(16, len(data)) :]
            data[:6] = whole[:6]
            read += tried(bytes(data))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read > 100, "the mutations were too coarse"
    assert most < 2 << 20


def tried(data: bytes) -> bool:
    """Whether this could be read at all; every question is asked of it."""
    fd = os.memfd_create("broken")
    try:
        os.write(fd, data)
        file = read_elf(fd)
        if file is None:
            return False
        addresses = [
            file.virtual_address(offset) or offset for offset in (0, 0x1000, 0x1010, 1 << 63)
        ]
        find_symbols(file, addresses)
        find_symbols(file, addresses, exported=True)
        return True
    finally:
        os.close(fd)


def test_a_table_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    """A file of a terabyte of symbols, all holes, is given up after a bounded number."""
    built = build(tmp_path, "-m64")
    data = bytearray(built.read_bytes())
    (offset,) = struct.unpack_from("<Q", data, 0x28)
    size, number = struct.unpack_from("<HH", data, 0x3A)
    for at in range(offset, offset + size * number, size):
        if struct.unpack_from("<I", data, at + 4) == (2,):
            struct.pack_into("<QQ", data, at + 0x18, 1 << 20, 1 << 40)
    built.write_bytes(data)
    os.truncate(built, 1 << 41)
    with opened(built) as file:
        # A second or two; to its end it would be days.
        assert find_symbols(file, [0x701000]) == {}


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x02\x02" + b"\0" * 100, b"x" * 9000])
def test_what_is_no_such_file_is_none(data: bytes) -> None:
    """Empty, cut, of the other byte order, or something else."""
    assert not tried(data)


def test_a_name_is_one_line_of_text() -> None:
    """Whatever bytes a file has for it."""
    assert escape_nonprintable("main") == "main"
    assert escape_nonprintable("größe") == "größe"
    assert escape_nonprintable(decode_bytes(b"a\nb\x1b[31m\xff")) == "a\\x0ab\\x1b[31m\\xff"
