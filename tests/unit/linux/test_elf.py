"""ELF files compared with binutils, and broken ones."""

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
def open_file(path: Path) -> Iterator[ElfFile]:
    """Open a file that must be readable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        file = read_elf(fd)
        assert file is not None
        yield file
    finally:
        os.close(fd)


def output_of(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def build_library(folder: Path, machine: str) -> Path:
    """Build a library of known functions, with code at another address than its offset."""
    require(shutil.which("clang") and shutil.which("readelf"), "clang and binutils are needed")
    require(machine == "-m64" or os.uname().machine == "x86_64", "its compiler makes 32 bits too")
    (folder / "code.c").write_text(CODE, encoding="ascii")
    library = folder / "libcode.so"
    flags = [machine, "-O1", "-shared", "-nostdlib", "-fPIC", "-Wl,--build-id"]
    base = "-Wl,-Ttext-segment=0x700000"
    subprocess.run(["clang", *flags, base, folder / "code.c", "-o", library], check=True)
    return library


@pytest.fixture(params=["-m64", "-m32"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Such a library of 64 and of 32 bits."""
    return build_library(tmp_path, request.param)


def defined_functions(path: Path, table: str = "--syms") -> list[tuple[str, int, int]]:
    """Return name, start and size of each defined function by readelf(1)."""
    functions = []
    for line in output_of("readelf", "-W", table, path).splitlines():
        words = line.split()
        if len(words) > 7 and words[3] in ("FUNC", "IFUNC") and words[6] != "UND":
            functions.append((words[7].partition("@")[0], int(words[1], 16), int(words[2], 0)))
    return functions


def function_spans(path: Path) -> dict[str, tuple[int, int]]:
    """Return start and size of each function by name."""
    return {name: (start, size) for name, start, size in defined_functions(path)}


def mapped_libraries() -> list[Path]:
    """Return the files that this process has mapped."""
    with Path("/proc/self/maps").open(encoding="utf-8") as maps:
        paths = {line.split()[5] for line in maps if " r-xp " in line and "/" in line}
    return sorted(Path(path) for path in paths if Path(path).is_file())


def test_build_ids_equal_those_of_readelf() -> None:
    require(shutil.which("readelf"), "readelf is the oracle")
    for path in mapped_libraries():
        match = re.search(r"Build ID: (\w+)", output_of("readelf", "-n", path))
        fd = os.open(path, os.O_RDONLY)
        file = read_elf(fd)
        os.close(fd)
        assert (file.build_id.hex() if file else None) == (match[1] if match else None), path


@pytest.mark.slow
def test_every_exported_function_is_found() -> None:
    """Those of the C library, by their first and last bytes; any name at the address is right."""
    require(shutil.which("readelf"), "readelf is the oracle")
    (libc,) = (path for path in mapped_libraries() if path.name.startswith(("libc.so", "libc-")))
    functions = [it for it in defined_functions(libc, "--dyn-syms") if it[2]]
    assert len(functions) > 1000
    with open_file(libc) as file:
        for last in (False, True):
            addresses = [start + (size - 1 if last else 0) for _, start, size in functions]
            symbols = find_symbols(file, addresses, exported=True)
            for address, (_, start, size) in zip(addresses, functions, strict=True):
                symbol = symbols[address]
                begins = address - symbol.distance
                # The same by another name, or one that begins inside of it.
                assert start <= begins < start + size
                assert any(it[:2] == (symbol.name.decode(), begins) for it in functions), symbol


def test_static_functions_are_found(library: Path) -> None:
    """Of several names the plainest."""
    known = function_spans(library)
    with open_file(library) as file:
        hidden, shown = known["hidden"][0], known["shown"][0]
        symbols = find_symbols(file, [hidden + 1, shown, shown + known["shown"][1]])
        assert symbols[hidden + 1] == Symbol(b"hidden", 1)
        assert symbols[shown] == Symbol(b"shown", 0)
        assert known["shown"] == known["__shown"] == known["also_shown"]
        exported = find_symbols(file, [hidden + 1, shown], exported=True)
        assert exported == {shown: Symbol(b"shown", 0)}


def test_no_function_is_found_after_its_end(library: Path) -> None:
    """A size ends a function; one without a size extends to the next."""
    known = function_spans(library)
    with open_file(library) as file:
        bare, (sized, size) = known["bare"][0], known["sized"]
        assert (known["bare"][1], size) == (0, 2)
        symbols = find_symbols(file, [bare, sized - 1, sized + 1, sized + size])
        assert symbols == {
            bare: Symbol(b"bare", 0),
            sized - 1: Symbol(b"bare", sized - 1 - bare),
            sized + 1: Symbol(b"sized", 1),
        }


def test_virtual_addresses_equal_those_of_readelf(library: Path) -> None:
    sections = output_of("readelf", "-WS", library)
    (section,) = re.findall(r" \.text +PROGBITS +(\w+) (\w+) (\w+)", sections)
    address, offset, size = (int(digits, 16) for digits in section)
    assert address != offset
    with open_file(library) as file:
        assert file.virtual_address(offset) == address
        assert file.virtual_address(offset + size - 1) == address + size - 1
        assert file.virtual_address(0) is None
        assert file.virtual_address(1 << 40) is None


def test_broken_files_are_read_in_bounded_memory(library: Path) -> None:
    """A thousand mutations without an exception."""
    whole = library.read_bytes()
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
            read += try_file(bytes(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read > 100, "the mutations were too coarse"
    assert peak < 2 << 20


def try_file(data: bytes) -> bool:
    """Return whether the file is readable at all; call each function on it."""
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


def test_reads_of_a_huge_symbol_table_are_bounded(tmp_path: Path) -> None:
    """A terabyte of symbols, all holes."""
    library = build_library(tmp_path, "-m64")
    data = bytearray(library.read_bytes())
    (offset,) = struct.unpack_from("<Q", data, 0x28)
    size, number = struct.unpack_from("<HH", data, 0x3A)
    for at in range(offset, offset + size * number, size):
        if struct.unpack_from("<I", data, at + 4) == (2,):
            struct.pack_into("<QQ", data, at + 0x18, 1 << 20, 1 << 40)
    library.write_bytes(data)
    os.truncate(library, 1 << 41)
    with open_file(library) as file:
        # A second or two; to its end it would be days.
        assert find_symbols(file, [0x701000]) == {}


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x02\x02" + b"\0" * 100, b"x" * 9000])
def test_other_files_are_none(data: bytes) -> None:
    assert not try_file(data)


def test_nonprintable_characters_are_escaped() -> None:
    assert escape_nonprintable("main") == "main"
    assert escape_nonprintable("größe") == "größe"
    assert escape_nonprintable(decode_bytes(b"a\nb\x1b[31m\xff")) == "a\\x0ab\\x1b[31m\\xff"
