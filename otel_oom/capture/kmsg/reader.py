"""Reading /dev/kmsg: one record a read, from one end of the log or the other on.

A record is ``level and facility,sequence,microseconds,flags[,caller=T1];text``, then lines of
``key=value`` (Documentation/ABI/testing/dev-kmsg). Records of user space have a facility: what is
not the kernel's own is left out.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otel_oom.capture.source import CaptureError
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_US

DEVICE: Final = Path("/dev/kmsg")

_RECORD_BYTES: Final = 1 << 13
"""CONSOLE_EXT_LOG_MAX: no record is longer."""

_ESCAPE: Final = re.compile(rb"\\x([0-9a-fA-F]{2})")
_FACILITY_SHIFT: Final = 3
_PREFIX_FIELDS: Final = 4


def decode_text(raw: bytes) -> str:
    r"""The bytes that the kernel printed, as text; what is not UTF-8 stays as ``\xNN``.

    The kernel escapes what is not printable ASCII, and the backslash.
    """
    if b"\\" in raw:
        raw = _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), raw)
    return decode_bytes(raw)


def parse_record(raw: bytes, *, after_loss: bool = False) -> Line | None:
    """The kernel's line in a record; ``None`` for user space's and for what is no record."""
    prefix, found, body = raw.partition(b";")
    fields = prefix.split(b",")
    if not found or len(fields) < _PREFIX_FIELDS:
        return None
    try:
        level, sequence, microseconds = (int(field) for field in fields[:3])
    except ValueError:
        return None
    if level < 0 or level >> _FACILITY_SHIFT:
        return None
    return Line(
        text=decode_text(body.partition(b"\n")[0]),
        time_ns=microseconds * NS_PER_US,
        sequence=sequence,
        caller=_caller(fields[_PREFIX_FIELDS:]),
        continues=fields[3] == b"c",
        after_loss=after_loss,
        exact=True,
    )


def _caller(fields: list[bytes]) -> int | None:
    """The thread's id in ``caller=T123``; a processor's (``C0``) is none."""
    for field in fields:
        if field.startswith(b"caller=T") and field[8:].isdigit():
            return int(field[8:][:10])
    return None


class KmsgReader:
    """The kernel's lines from now on, and how many of the log's were lost unread."""

    def __init__(
        self, device: Path = DEVICE, *, only: tuple[bytes, ...] = (), from_start: bool = False
    ) -> None:
        """Open the log and go to its end, or stay at the oldest line that it still has.

        Of its lines only those with one of ``only`` count.

        Raises:
            CaptureError: the log can't be read here; says how to get there.
        """
        self._only = only
        self._fd = -1
        self.sequence: int | None = None
        """The number of the record that was read last."""
        self._after_loss = False
        self.lost = 0
        """Records that were overwritten before they were read, whoever wrote them."""
        try:
            self._fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if not from_start:
                self._skip()
        except OSError as error:
            self.close()
            raise CaptureError(_advice(device, error)) from error
        self.lost, self._after_loss = 0, False

    def _skip(self) -> None:
        """Read what is there: only the last one's number tells later how many were lost."""
        while self._read() is not None:
            pass

    def fileno(self) -> int:
        """A descriptor that is readable when the log has more."""
        return self._fd

    def close(self) -> None:
        """Close the log."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read_lines(self, most: int) -> Iterator[Line]:
        """The kernel's lines that count, until the log has no more.

        At most so many records are looked at, that a flood of them holds up nothing else.

        Raises:
            OSError: the log can't be read any more.
        """
        for _ in range(most):
            raw = self._read()
            if raw is None:
                return
            if self._only and not any(mark in raw for mark in self._only):
                continue
            line = parse_record(raw, after_loss=self._after_loss)
            if line is not None:
                self._after_loss = False
                yield line

    def _read(self) -> bytes | None:
        while True:
            try:
                raw = os.read(self._fd, _RECORD_BYTES)
            except BlockingIOError:
                return None
            except BrokenPipeError:
                # The next read goes on behind the gap; its number says how wide that is.
                self._after_loss = True
                continue
            self._count(raw)
            return raw or None

    def _count(self, raw: bytes) -> None:
        number = raw.split(b",", 2)[1:2]
        if not number or not number[0].isdigit():
            return
        sequence = int(number[0][:20])
        if self.sequence is not None and sequence > self.sequence + 1:
            self.lost += sequence - self.sequence - 1
            self._after_loss = True
        self.sequence = sequence


def _advice(device: Path, error: OSError) -> str:
    reason = f"The kernel's log ({device}) can't be read: {error.strerror}."
    if error.errno in {errno.EPERM, errno.EACCES}:
        return (
            f"{reason} Run this as root or with the capability CAP_SYSLOG (systemd: "
            "AmbientCapabilities=), which the sysctl kernel.dmesg_restrict=1 asks for; a container "
            "must be given the device as well (docker, podman: --device=/dev/kmsg --cap-add=SYSLOG)"
            ", or be privileged."
        )
    if error.errno in {errno.ENOENT, errno.ENXIO, errno.ENODEV}:
        return (
            f"{reason} In a container, hand the device in (docker, podman: --device=/dev/kmsg "
            "--cap-add=SYSLOG); on a host, make it: mknod -m 600 /dev/kmsg c 1 11"
        )
    return f"{reason} Run this as root on the host, on a kernel with CONFIG_PRINTK=y."
