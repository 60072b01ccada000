"""Bytes as an ELF file: its build id, and the functions at some addresses of it.

The same bytes are what the process that reads ELF files returns.
"""

from __future__ import annotations

import os
from typing import Final
from unittest import mock

from otel_oom.enrich.symbols.request import decode_symbols, encode_symbols
from otel_oom.linux.elf import MAX_SEGMENTS, read_elf
from otel_oom.linux.elf_symbols import find_symbols
from otel_oom.linux.runtimes.go_build_info import read_go_version

_OFFSETS: Final = (0, 0x1000, 0x1010, 1 << 63)
_MAX_BUILD_ID_BYTES: Final = 4096
_MAX_NAME_BYTES: Final = 1024
_READS_PER_BYTE: Final = 80
"""A program header has 56 bytes, and may point to 4 KiB of notes."""
_FREE_BYTES: Final = 1 << 17
_REAL_PREAD: Final = os.pread


class _ReadCounter:
    """A pread(2) that counts bytes and calls."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, fd: int, size: int, offset: int) -> bytes:
        data = _REAL_PREAD(fd, size, offset)
        self.count += len(data) + 1
        return data


def check_input(data: bytes) -> None:
    """Read an ELF file and check that output and reads are bounded by its size."""
    fd, reads = os.memfd_create("elf"), _ReadCounter()
    try:
        os.write(fd, data)
        with mock.patch.object(os, "pread", reads):
            _check_file(fd)
    finally:
        os.close(fd)
    for count in (1, 2):
        symbols = decode_symbols(data, count)
        assert symbols is None or decode_symbols(encode_symbols(symbols), count) == symbols
    assert reads.count <= _READS_PER_BYTE * len(data) + _FREE_BYTES, "reads are amplified"


def _check_file(fd: int) -> None:
    version = read_go_version(fd)
    assert version is None or version.isprintable()
    file = read_elf(fd)
    if file is None:
        return
    assert 0 < len(file.build_id) <= _MAX_BUILD_ID_BYTES
    assert len(file.segments) <= MAX_SEGMENTS
    starts = [segment.address for segment in file.segments[:8]]
    addresses = [*starts, *(file.virtual_address(offset) or offset for offset in _OFFSETS)]
    for exported in (False, True):
        symbols = find_symbols(file, addresses, exported=exported)
        assert symbols.keys() <= set(addresses)
        for symbol in symbols.values():
            assert 0 < len(symbol.name) <= _MAX_NAME_BYTES
            assert b"\0" not in symbol.name
            assert symbol.distance >= 0
