"""Notice that a file is opened, by whomever."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_IN_OPEN = 0x20


@contextmanager
def watch_opens(path: Path) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether ``path`` was opened by now; O_PATH opens nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    assert libc.inotify_add_watch(fd, os.fsencode(path), _IN_OPEN) >= 0

    def was_opened() -> bool:
        try:
            return bool(os.read(fd, 4096))
        except BlockingIOError:
            return False

    try:
        yield was_opened
    finally:
        os.close(fd)
