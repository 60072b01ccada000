"""That the agent itself lives when memory is short: it is there for that very moment."""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path
from typing import Final

_LOG = logging.getLogger(__name__)

SCORE_ADJ: Final = -999
"""Nearly never chosen. -1000, never, would leave no process to kill in a cgroup of its own."""

_OWN_SCORE_ADJ: Final = Path("/proc/self/oom_score_adj")


_MCL_CURRENT: Final = 1
_MCL_ONFAULT: Final = 4


def own_score_adj() -> int | None:
    """This process's ``oom_score_adj``; ``None`` where it can't be read."""
    try:
        return int(_OWN_SCORE_ADJ.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def spare_me() -> None:
    """Ask the kernel to choose nearly everybody else first, or say that we may not ask.

    Lowering it takes CAP_SYS_RESOURCE (proc_pid_oom_score_adj(5)).
    """
    found = own_score_adj()
    if found is not None and found <= SCORE_ADJ:
        return
    try:
        _OWN_SCORE_ADJ.write_text(str(SCORE_ADJ), encoding="ascii")
    except OSError as error:
        _LOG.warning(
            "The agent may not lower its own oom_score_adj (%s), which stays at %s: the OOM killer "
            "may choose it. Start it by systemd with OOMScoreAdjust=%d, or with CAP_SYS_RESOURCE.",
            error.strerror,
            found,
            SCORE_ADJ,
        )


def give_back() -> None:
    """Give memory that is free again back to the kernel, where the C library can.

    Loading BPF programs takes 12 MB for the kernel's types, in pieces that the allocator of
    glibc would keep. After :func:`hold` there is nothing to give back.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def hold() -> None:
    """Keep what this process has in memory there, or say that we may not.

    Under pressure the kernel takes a program's text first, for it is on the disk, and an agent
    that waits for a kill uses none of it. Measured in a cgroup at its limit, a kill then took
    124 ms to the disk with 70 reads of pages, and 4 ms with none when they were held. Pages count
    as they come (MCL_ONFAULT), so that it costs no memory; what is mapped later is not held, so
    that no later allocation can fail for it (mlockall(2)).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_ONFAULT):
        _LOG.warning(
            "The agent may not hold its memory (%s): under pressure a kill can take some 100 ms "
            "longer to the disk. Start it by systemd with LimitMEMLOCK=infinity, or with "
            "CAP_IPC_LOCK.",
            os.strerror(ctypes.get_errno()),
        )
