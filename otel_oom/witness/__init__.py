"""What must be read before the victim is gone: its ``/proc`` files and its cgroup's numbers.

Everything here runs between the kernel's record and the journal's row. So each read is one
bounded read of a kernel file, no name is looked up, and what can't be read is ``None``.
"""

from otel_oom.witness.memcg import MemcgFiles
from otel_oom.witness.seen import Witness
from otel_oom.witness.victim import look, still_alive

__all__ = ["MemcgFiles", "Witness", "look", "still_alive"]
