"""What a victim was started with, out of the kernel side's copy of its memory.

The copy holds secrets: only its allowed part leaves this module, and the copy is wiped.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from msgspec import Struct

from otel_oom.capture.bpf.libbpf import LibbpfError
from otel_oom.capture.bpf.maps import Maps
from otel_oom.capture.bpf.pin_set import START_TEXT_MAP
from otel_oom.capture.bpf.records import CHUNK_LEN, START_TEXTS, StartTextRecord, UserTextRecord
from otel_oom.linux.start_settings import select_start_settings
from otel_oom.model.start_settings import MARK, StartSettings
from otel_oom.model.text import decode_bytes

_WIPED: Final = bytes(ctypes.sizeof(StartTextRecord))
_TIME_BYTES: Final = StartTextRecord.boottime_ns.size


class _Run(Struct, frozen=True):
    """Bytes without a gap; ``is_start`` and ``is_end`` are those of the whole text."""

    content: bytes
    is_start: bool
    is_end: bool


class StartTextReader:
    """Reader of the kernel side's copies; each is read once.

    The kernel side may overwrite a copy while this reads or wipes it. It writes the time of the new
    kill first: so a copy is whole if it has the same time before and after.
    """

    def __init__(self, loaded: Maps) -> None:
        self._maps = loaded
        self._number, self._boottime_ns = 0, 0
        self._damaged: dict[int, int] = {}
        """Times, by number, of copies that a wipe may have met."""

    def read(self, number: int, boottime_ns: int) -> StartSettings | None:
        """Return the allowed part of copy ``number``, if it belongs to the kill of that time."""
        if not 0 < number <= START_TEXTS or self._damaged.get(number) == boottime_ns:
            return None
        with suppress(LibbpfError):
            content = self._read_copy(number)
            # The kill's record comes after its copy. A later kill may overwrite the copy meanwhile.
            if _time_of(content) == boottime_ns == _time_of(self._read_copy(number)):
                self._number, self._boottime_ns = number, boottime_ns
                return decode_start_text(StartTextRecord.from_buffer_copy(content))
        return None

    def wipe(self) -> None:
        """Wipe the copy that was read last: its kill is stored."""
        number, self._number = self._number, 0
        if not number:
            return
        with suppress(LibbpfError):
            if _time_of(self._read_copy(number)) != self._boottime_ns:
                return
            self._maps.set_value(START_TEXT_MAP, _WIPED, index=number - 1)
            self._damaged[number] = _time_of(self._read_copy(number))

    def _read_copy(self, number: int) -> bytes:
        return self._maps.value(START_TEXT_MAP, len(_WIPED), index=number - 1)


def _time_of(content: bytes) -> int:
    return int.from_bytes(content[:_TIME_BYTES], sys.byteorder)


def decode_start_text(record: StartTextRecord) -> StartSettings | None:
    """Return the allowed part of a copy; ``None`` if its environment could not be read.

    A program that writes a title over its arguments (setproctitle(3)) has no environment there any
    more.
    """
    runs = list(_list_runs(record.environ, bytes(record.environ_chunks)))
    is_complete = len(runs) == 1 and runs[0].is_start and runs[0].is_end
    entries = [entry for run in runs for entry in _split_run(run)]
    if not runs or (entries and "=" not in entries[0]):
        return None
    arguments = next(_list_runs(record.arguments, bytes(record.argument_chunks)), None)
    return select_start_settings(
        MARK,
        _split_run(arguments) if arguments and arguments.is_start else (),
        entries,
        is_complete=is_complete,
        has_command=arguments is not None and arguments.is_start and arguments.is_end,
    )


def _list_runs(text: UserTextRecord, chunks: bytes) -> Iterator[_Run]:
    """Yield the parts of a text that could be read, in their order."""
    begin = text.begin % CHUNK_LEN
    end = min(begin + max(0, text.end - text.begin), len(chunks))
    is_cut = begin + text.end - text.begin > len(chunks)
    start: int | None = None
    for index in range((end + CHUNK_LEN - 1) // CHUNK_LEN + 1):
        offset = index * CHUNK_LEN
        if offset < end and text.read_chunks >> index & 1:
            start = offset if start is None else start
        elif start is not None:
            stop = min(offset, end)
            yield _Run(chunks[max(start, begin) : stop], start == 0, stop == end and not is_cut)
            start = None


def _split_run(run: _Run) -> list[str]:
    """Return the words of a run that have both their ends in it."""
    words = run.content.split(b"\0")
    # What follows the last NUL is no word, or is cut off.
    return [decode_bytes(word) for word in words[0 if run.is_start else 1 : -1]]
