"""Find OOM panics of earlier boots after the reboot.

The kernel's persistent store has only the last 10 KiB or so of a panic's log. The journal has the
lines before, and the boot's id. If both share lines they are of one boot, and are read as one log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.capture.panic import previous_boot, pstore
from otel_oom.capture.panic.previous_boot import PreviousBoot
from otel_oom.capture.panic.pstore import PstoreDump
from otel_oom.capture.panic.report import BootLogTail, find_panic, find_truncated_report
from otel_oom.linux import procfs
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.model.events import Panic
from otel_oom.model.units import NS_PER_US

_LOG = logging.getLogger(__name__)

_PANIC_ON_OOM: Final = Path("/proc/sys/vm/panic_on_oom")
_POLICY_BYTES: Final = 16


def start_panic_scan(record: Callable[[Panic], bool], wake: Callable[[], None]) -> None:
    """Scan once, in a thread of its own.

    Both functions are called from that thread: ``record`` stores a panic and returns whether it is
    new; ``wake`` is called for a new one.
    """
    threading.Thread(target=_scan, args=(record, wake), name="panics", daemon=True).start()


def _scan(record: Callable[[Panic], bool], wake: Callable[[], None]) -> None:
    try:
        for panic in find_panics():
            if record(panic):
                _LOG.warning("OOM panic of an earlier boot found in %s", panic.capture.hook)
                wake()
    except Exception:  # noqa: BLE001  whatever is wrong with these files, kills go on
        _LOG.exception("Scan for OOM panics of earlier boots failed")


def find_panics(
    folders: Sequence[Path] = pstore.FOLDERS,
    read_previous_boot: Callable[[], PreviousBoot | None] = previous_boot.read_previous_boot,
    has_backend: Callable[[], bool] = pstore.has_backend,
    policy: Path = _PANIC_ON_OOM,
) -> Iterator[Panic]:
    """Yield every OOM panic that the persistent store or the journal still has.

    One that both have is yielded twice, under one uid. Without a persistent store, a panic is also
    inferred from a boot log that ends in a report.
    """
    boot = read_previous_boot()
    logs = [_join_with_journal(dump, boot) for dump in pstore.read_panic_dumps(folders)]
    if boot:
        logs.append(BootLogTail("journal", "journalctl", boot.lines, boot=boot))
    for log in logs:
        panic = find_panic(log)
        if panic is None and log.source == "journal" and not has_backend():
            setting = (procfs.read_text(policy, _POLICY_BYTES) or "").strip()
            panic = find_truncated_report(log, setting)
        if panic:
            yield panic


def _join_with_journal(dump: PstoreDump, boot: PreviousBoot | None) -> BootLogTail:
    """Put the journal's older lines of the same boot before the stored ones."""
    log = BootLogTail("pstore", str(dump.folder), dump.lines, stored_unix_ns=dump.unix_ns)
    if boot is None or not _same_boot(dump.lines, boot.lines):
        return log
    older = [line for line in boot.lines if line.time_ns < dump.lines[0].time_ns]
    # The journal does not have the thread that printed a line.
    stored = [replace(line, caller=None) for line in dump.lines]
    return replace(log, lines=[*older, *stored], own_index=len(older), boot=boot)


def _same_boot(stored: Sequence[Line], journal: Sequence[Line]) -> bool:
    """Return true if the journal has most of the stored lines of its time range.

    Two boots of a host print much the same, and a few lines of it at the same microsecond.
    """
    journal_keys = {_line_key(line) for line in journal}
    first, last = max(1, journal[0].time_ns), journal[-1].time_ns
    shared = [_line_key(line) in journal_keys for line in stored if first <= line.time_ns <= last]
    return 2 * sum(shared) > len(shared)


def _line_key(line: Line) -> tuple[int, str]:
    """Return time and text, in the precision of both and without the end that one of them trims."""
    return line.time_ns // NS_PER_US, line.text.rstrip()
