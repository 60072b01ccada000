"""Settle the agent's memory once it has started.

The start touches pages that nothing needs later: of the interpreter's compiler, of libbpf's loader,
of C++. They are given back. What a kill needs on its way to the disk is touched again by a
rehearsal, and then locked.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from typing import Final

from otel_oom.agent import memory
from otel_oom.linux import clock, heap
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.model.events import OomKill
from otel_oom.model.types import Capture, Task
from otel_oom.snapshot import take_snapshot
from otel_oom.store import Store

_LOG = logging.getLogger(__name__)

_DELAY_S: Final = 1.0
"""Longer than the first turn of each thread takes, with its imports."""


class MemorySettling:
    """The parts of the start, of which the last to finish settles the memory."""

    def __init__(self, store: Store, parts: int) -> None:
        self._store = store
        self._parts = parts
        self._mutex = threading.Lock()
        self._is_locked = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="settle", daemon=True)

    def finish_part(self) -> None:
        """Count a part as finished; one that is started again later does not count."""
        with self._mutex:
            self._parts -= 1
            if self._parts == 0:
                self._thread.start()

    def stop(self) -> None:
        """End before the store is closed: a rehearsal would open it again."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        if self._stop.wait(_DELAY_S):
            return
        memory.release_file_pages()
        # What is alive now stays so. Without it a collection takes less than a millisecond, so the
        # interpreter makes one often, which also frees its lists of spare tuples: 0.5 MB.
        gc.freeze()
        gc.collect()
        heap.trim_heap()
        try:
            rehearse_kill(self._store)
        except Exception:  # noqa: BLE001  kills come first
            _LOG.exception("Rehearsal of a kill failed: the first one may be stored 0.1 s later")
        self._is_locked = memory.lock_memory()

    def return_heap(self) -> None:
        """Return what a burst of kills has left free in the heap, which takes milliseconds."""
        gc.collect()
        if self._is_locked:
            memory.unlock_memory()
            heap.trim_heap()
            self._is_locked = memory.lock_memory()
        else:
            heap.trim_heap()


def rehearse_kill(store: Store) -> bool:
    """Record a kill of this process up to its transaction, which is rolled back.

    Returns ``False`` if the store could not have stored it.
    """
    kill = OomKill(
        boot_id=clock.boot_id(),
        boottime_ns=clock.boottime_ns(),
        time_unix_ns=time.time_ns(),
        trigger=None,
        capture=Capture("rehearsal", "", None, 0),
        victim=Task(tgid=os.getpid()),
        memory=None,
        memcg=None,
    )
    return store.rehearsal.insert(kill, take_snapshot(kill, CgroupMount.find()))
