"""Protect the agent from the OOM killer and from page reclaim."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from otel_oom.linux import launcher
from otel_oom.linux.process import ProcessDir

_LOG = logging.getLogger(__name__)

SCORE_ADJ: Final = -999
"""Nearly never chosen. With -1000 (never) a cgroup of the agent alone could not be relieved."""

_PROTECTED: Final = -997
"""What the kubelet gives to a critical pod (pkg/kubelet/qos/policy.go); there is no better one."""

_MCL_CURRENT: Final = 1
_MCL_ONFAULT: Final = 4
_MADV_DONTNEED: Final = 4

_LOAD_S: Final = 0.1
"""Longer than the dynamic linker takes to map a library."""
_READ_ONLY_FILE: Final = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) r-\S\S \S+ \S+ \S+ +/")


def lower_oom_score_adj() -> None:
    """Lower ``oom_score_adj``, so that the kernel chooses nearly all others first.

    Needs CAP_SYS_RESOURCE (proc_pid_oom_score_adj(5)); without it a warning is logged.
    """
    current = ProcessDir("self").read_number("oom_score_adj")
    if current is not None and current <= _PROTECTED:
        return
    try:
        Path("/proc/self/oom_score_adj").write_text(str(SCORE_ADJ), encoding="ascii")
    except OSError as error:
        _LOG.warning(
            "Cannot lower oom_score_adj (%s): it stays at %s, and the agent may be killed. %s",
            error.strerror,
            current,
            launcher.protect_from_kill(SCORE_ADJ),
        )


def release_file_pages() -> None:
    """Unmap the pages of programs and libraries (madvise(2)): 5 MB, of which 2 come back.

    They stay in the kernel's cache, and are mapped again on their next use. Pages that the dynamic
    linker has changed are anonymous: their mappings are left alone. So are mappings that are new:
    a library that another thread loads is mapped as a whole at first, and its data later within.
    """
    before = _list_read_only_files()
    time.sleep(_LOAD_S)
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    start = end = 0
    with suppress(OSError), Path("/proc/self/smaps").open("rb") as lines:
        for line in lines:
            if mapping := _READ_ONLY_FILE.match(line):
                is_old = mapping.groups() in before
                start, end = (int(mapping[1], 16), int(mapping[2], 16)) if is_old else (0, 0)
            elif line.startswith(b"Rss:") and line.split()[1] == b"0":
                start = 0
            elif line.startswith(b"Anonymous:"):
                if start and line.split()[1] == b"0":
                    madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)
                start = 0


def _list_read_only_files() -> set[tuple[bytes, ...]]:
    with suppress(OSError), Path("/proc/self/maps").open("rb") as lines:
        return {mapping.groups() for mapping in map(_READ_ONLY_FILE.match, lines) if mapping}
    return set()


def lock_memory() -> bool:
    """Lock the resident pages of this process in memory (mlockall(2)).

    Under pressure the kernel first reclaims program text, which the agent does not use while it
    waits. Measured in a cgroup at its limit, a kill took 124 ms to the disk with 70 page reads, and
    4 ms with locked pages. Pages are locked on their first use (MCL_ONFAULT), which costs no
    memory. Later mappings are not locked, so that no allocation can fail. Returns ``False`` where
    it is not allowed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_ONFAULT):
        _LOG.warning(
            "Cannot lock memory of the agent (%s): kills may be stored 100 ms later. %s",
            os.strerror(ctypes.get_errno()),
            launcher.allow_locked_memory(),
        )
        return False
    return True


def unlock_memory() -> None:
    """Undo :func:`lock_memory`: nothing of a locked heap can be returned."""
    ctypes.CDLL(None).munlockall()
