"""Read state that vanishes with the victim: its files, its cgroups and the host.

``take_snapshot`` runs before the kill is stored. So each read is one bounded read of a kernel file,
no name is resolved, and what is not readable is ``None``. Work that grows with the number of
processes follows after the kill is stored: see :mod:`otel_oom.snapshot.process_scanner`.
"""

from otel_oom.snapshot.process_scanner import ProcessScanner
from otel_oom.snapshot.victim import add_limit_cgroup, process_state, read_usage, take_snapshot

__all__ = ["ProcessScanner", "add_limit_cgroup", "process_state", "read_usage", "take_snapshot"]
