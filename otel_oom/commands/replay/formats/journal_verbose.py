"""Entries of ``journalctl -o verbose``: a time and a cursor, then each field on a line of its own.

A field begins behind four blanks. A value of several lines goes on behind more of them, so no value
forges a field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from otel_oom.commands.replay.formats.log_line import PartialTimestamp
from otel_oom.commands.replay.formats.written_time import parse_written_time
from otel_oom.commands.replay.prefilter import RawLine, ReportWindow
from otel_oom.commands.replay.signs import SIGN
from otel_oom.model.units import NS_PER_US

HEADER: Final = re.compile(rb"(\S[^\[\n]{10,60}) \[(s=[0-9a-f]+;i=[0-9a-f]+;b=[^\]\n]{1,200})\]\r?")
_FIELD: Final = re.compile(rb"    ([A-Z0-9_]{1,64}=.*)", re.DOTALL)
_MAX_FIELDS: Final = 1 << 10


def prefilter_verbose(blocks: Iterable[bytes]) -> Iterator[RawLine]:
    """Yield the entries that matter, each as in the export format of the journal."""
    window = ReportWindow()
    for entry in _split_entries(blocks):
        sign = SIGN.search(entry)
        if sign or window.is_open:
            yield window.advance(entry, sign)


def _split_entries(blocks: Iterable[bytes]) -> Iterator[bytes]:
    fields: list[bytes] = []
    for block in blocks:
        for line in block.splitlines():
            if header := HEADER.fullmatch(line):
                if fields:
                    yield b"\n".join((*fields, b""))
                fields = list(_begin_entry(header))
            elif fields and len(fields) < _MAX_FIELDS and (field := _FIELD.fullmatch(line)):
                fields.append(field[1])
    if fields:
        yield b"\n".join((*fields, b""))


def _begin_entry(header: re.Match[bytes]) -> Iterator[bytes]:
    yield b"__CURSOR=" + header[2]
    written = parse_written_time(header[1] + b" ")
    if written and isinstance(written.when, PartialTimestamp):
        with suppress(ValueError, OverflowError):
            yield b"__REALTIME_TIMESTAMP=%d" % (written.when.unix_ns() // NS_PER_US)
