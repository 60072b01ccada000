"""What must be read before it is gone: the victim, the numbers of cgroups and host, who used what.

``take_snapshot`` runs between the kernel's record and the journal's row. So each read is one
bounded read of a kernel file, no name is looked up, and what can't be read is ``None``. What costs
with the number of processes comes behind the row: see :mod:`otel_oom.snapshot.process_scanner`.
"""

from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.model.snapshot import Snapshot
from otel_oom.snapshot.process_scanner import ProcessScanner
from otel_oom.snapshot.victim import process_state, take_snapshot

__all__ = ["CgroupMount", "ProcessScanner", "Snapshot", "process_state", "take_snapshot"]
