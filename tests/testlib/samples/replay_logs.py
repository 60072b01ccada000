"""Logs of the past in the formats of their producers, and the events that replay finds in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from otel_oom.commands.replay.decompress import LogStream
from otel_oom.commands.replay.encoding import Utf8Stream
from otel_oom.commands.replay.events import Event, EventExtractor
from otel_oom.commands.replay.line_reader import read_lines
from otel_oom.model.events import OomKill
from tests.testlib.samples.log_lines import KILLED, REPORT

BOOT: Final = "f0e1d2c3000040008000000000000001"
MACHINE: Final = "0123456789abcdef0123456789abcdef"
DAY_NS: Final = 86_400 * 10**9
ENDED_NS: Final = 1_700_000_000 * 10**9
"""2023-11-14T22:13:20Z: the time of the last change of the sample files."""

KILL: Final = (*REPORT, KILLED)


class ChunkedStream:
    """A stream that returns its data in chunks of one size."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = data
        self._size = size

    def read(self, size: int, /) -> bytes:
        """Return the next chunk."""
        piece, self._data = (
            self._data[: min(size, self._size)],
            self._data[min(size, self._size) :],
        )
        return piece


def syslog_lines(
    texts: Iterable[str], time: str = "Nov 14 21:00:00", host: str = "db1"
) -> list[str]:
    """Return lines as rsyslog writes them in its traditional format."""
    return [f"{time} {host} kernel: {text}" for text in texts]


def dmesg_lines(texts: Iterable[str], since_boot_s: float = 100.0) -> list[str]:
    """Return lines as dmesg prints them, a microsecond apart."""
    return [f"[{since_boot_s + index * 1e-6:12.6f}] {text}" for index, text in enumerate(texts)]


def journal_entries(
    texts: Iterable[str], since_boot_s: float = 100.0, **more: str
) -> list[dict[str, str]]:
    """Return entries of a journal, a microsecond apart, each read 5 s after it was printed."""
    return [
        {
            "__CURSOR": f"s=0;i={index}",
            "__REALTIME_TIMESTAMP": str(ENDED_NS // 1000 + index),
            "__MONOTONIC_TIMESTAMP": str(int((since_boot_s + 5) * 1e6) + index),
            "_BOOT_ID": BOOT,
            "_MACHINE_ID": MACHINE,
            "_HOSTNAME": "db1",
            "_TRANSPORT": "kernel",
            "SYSLOG_FACILITY": "0",
            "SYSLOG_IDENTIFIER": "kernel",
            "_SOURCE_MONOTONIC_TIMESTAMP": str(int(since_boot_s * 1e6) + index),
            "MESSAGE": text,
            **more,
        }
        for index, text in enumerate(texts)
    ]


def format_json(given: Iterable[dict[str, str]]) -> list[str]:
    """Return entries as ``journalctl -o json`` prints them."""
    return [json.dumps(entry) for entry in given]


def format_export(given: Iterable[dict[str, str]]) -> bytes:
    """Return entries as ``journalctl -o export`` prints them."""
    return b"".join(
        b"".join(f"{name}={value}\n".encode() for name, value in entry.items()) + b"\n"
        for entry in given
    )


def replay(
    data: bytes | list[str],
    *,
    ended_ns: int = ENDED_NS,
    piece: int = 1 << 20,
    is_named: bool = True,
    is_vouched: bool = True,
) -> list[Event]:
    """Return the events in a file of these bytes or lines."""
    if isinstance(data, list):
        data = "".join(f"{line}\n" for line in data).encode("utf-8", "surrogateescape")
    stream = LogStream(Utf8Stream(ChunkedStream(data, piece)), Path("log"))
    extractor = EventExtractor(None, ended_ns, is_named=is_named, is_vouched=is_vouched)
    return list(extractor.extract(read_lines(stream)))


def replay_kills(data: bytes | list[str], **more: int) -> list[OomKill]:
    """Return the kills among them."""
    return [event for event in replay(data, **more) if isinstance(event, OomKill)]  # type: ignore[arg-type]
