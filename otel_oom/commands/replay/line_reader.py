"""The lines of a stream that matter, whatever contains them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Final

from otel_oom.commands.replay import prefilter
from otel_oom.commands.replay.decompress import LogStream
from otel_oom.commands.replay.formats import (
    journal_export,
    journal_verbose,
    json_stream,
    logcat_long,
)
from otel_oom.commands.replay.formats.json_record import has_message

_HEAD_BYTES: Final = 1 << 16
_JSON: Final = re.compile(rb'\s*(?:\{\s*"|\[\s*\{)')
_ARRAY: Final = re.compile(rb"\[\s*\{")
_ELAPSED: Final = re.compile(
    rb"^(?:\w{0,8} {0,6}:\w{0,8} {0,6}: )?\[(?: {1,6}\+|< {1,9})\d", re.MULTILINE
)


def read_lines(
    stream: LogStream,
    progress: Callable[[int], None] = lambda _: None,
    on_too_long: Callable[[bytes], None] = lambda _: None,
) -> Iterator[prefilter.RawLine]:
    """Return the lines that matter; for the functions see :func:`prefilter.read_blocks`.

    Iterating raises the errors of the stream.
    """
    head = stream.peek(_HEAD_BYTES)
    if head.startswith(journal_export.BEGIN):
        return journal_export.prefilter_entries(stream, progress)
    if _is_spread_json(head):
        return json_stream.prefilter_records(stream, progress, on_too_long)
    blocks = prefilter.read_blocks(stream, progress, on_too_long)
    first_lines = head.split(b"\n", 2)[:2]
    if any(journal_verbose.HEADER.fullmatch(line) for line in first_lines):
        return journal_verbose.prefilter_verbose(blocks)
    # The first line may be the name of a buffer of the log.
    if any(logcat_long.HEADER.fullmatch(line) for line in first_lines):
        return logcat_long.prefilter_long(blocks)
    # Where a line has the time since the line before, no line can be left out.
    return prefilter.prefilter_lines(blocks, keep_all=_ELAPSED.search(head) is not None)


def _is_spread_json(head: bytes) -> bool:
    """Return whether JSON has other records than one a line."""
    if not _JSON.match(head):
        return False
    line = head.lstrip().partition(b"\n")[0]
    if line.startswith(b"["):
        return True
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return True
    return not has_message(record) and _ARRAY.search(line) is not None
