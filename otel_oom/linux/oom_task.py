"""A process with the memory that the OOM killer weighs, as /proc shows it."""

from __future__ import annotations

from otel_oom.linux.process import ProcessDir
from otel_oom.model.types import OomTask


def read_oom_task(process: ProcessDir, pid: int) -> OomTask | None:
    """Return the process, without what its cgroup and ``oom_score_adj`` add.

    ``None`` for one that is gone or has no memory, such as a kernel thread.
    """
    status = process.read_status()
    if status is None or not (status.resident or status.swap):
        return None
    return OomTask(
        tgid=pid,
        comm=status.comm,
        resident=status.resident,
        swap=status.swap,
        page_tables=status.page_tables,
        uid=status.uid,
    )
