"""The kernel log by syslog(2), which needs no device.

CAP_SYSLOG is enough in a container, where /dev/kmsg is missing. The kernel copies whole records of
its log, the newest ones that fit. Nothing is consumed and nothing cleared: other readers notice
nothing.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Final

_READ_ALL: Final = 3
_SIZE_BUFFER: Final = 10

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def log_buffer_bytes() -> int:
    """Return the size of the kernel's buffer, in which the records have no prefix.

    Raises:
        OSError: this process may not read the log.
    """
    return _klogctl(_SIZE_BUFFER, None, 0)


def read_log_tail(max_bytes: int) -> bytes:
    """Return the newest whole records, at most ``max_bytes``.

    Raises:
        OSError: this process may not read the log.
    """
    # A mapping of its own returns to the kernel at once.
    with mmap.mmap(-1, max_bytes) as buffer:
        target = (ctypes.c_char * max_bytes).from_buffer(buffer)
        try:
            length = _klogctl(_READ_ALL, target, max_bytes)
        finally:
            # The mapping can't be closed while this refers to it.
            del target
        return buffer[:length]


def _klogctl(action: int, buffer: ctypes.Array[ctypes.c_char] | None, size: int) -> int:
    result: int = _LIBC.klogctl(action, buffer, size)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
