"""Panics for want of memory, found after the reboot: nobody was there to see them.

The kernel's persistent store has a panic's last lines, some 10 KiB, and nothing else; the journal
has what was before, and its boot's id. They are of one boot where they share their lines:
then they are read as one log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.capture.panic import previous_boot as journal
from otel_oom.capture.panic import pstore
from otel_oom.capture.panic.previous_boot import PreviousBoot
from otel_oom.capture.panic.pstore import PstoreDump
from otel_oom.capture.panic.report import BootLogTail
from otel_oom.linux import procfs
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.model.events import Panic
from otel_oom.model.units import NS_PER_US

_LOG = logging.getLogger(__name__)

_WORDS: Final = "Kernel panic - not syncing: "
_POLICY: Final = Path("/proc/sys/vm/panic_on_oom")
_POLICY_BYTES: Final = 16
_KILLS: Final = frozenset({"", "0"})


def begin(record: Callable[[Panic], bool], wake: Callable[[], None]) -> None:
    """Look once, in a thread of its own: nothing waits for it.

    ``record`` stores a panic and says whether it was not told before; ``wake`` is called then.
    Both are called from that thread.
    """
    threading.Thread(target=_look, args=(record, wake), name="panics", daemon=True).start()


def _look(record: Callable[[Panic], bool], wake: Callable[[], None]) -> None:
    try:
        for panic in find():
            if record(panic):
                _LOG.warning(
                    "An earlier boot of this host panicked for want of memory (found in %s)",
                    panic.capture.hook,
                )
                wake()
    except Exception:  # noqa: BLE001  whatever is wrong with what was left, kills go on
        _LOG.exception("Earlier panics for want of memory could not be looked for")


def find(
    folders: Sequence[Path] = pstore.FOLDERS,
    previous_boot: Callable[[], PreviousBoot | None] = journal.previous_boot,
    has_backend: Callable[[], bool] = pstore.has_backend,
    policy: Path = _POLICY,
) -> Iterator[Panic]:
    """Every panic for want of memory that the store or the journal still has.

    One that both have is told twice, under one uid. Where no store could have kept it, a boot whose
    log ends within a report that leads to a panic is told as one, too.
    """
    boot = previous_boot()
    logs = [_with_journal(dump, boot) for dump in pstore.panics(folders)]
    if boot:
        logs.append(BootLogTail("journal", "journalctl", boot.lines, boot=boot))
    for log in logs:
        at_end = log.source == "journal" and not has_backend()
        found = _told(log, _set_to(policy) if at_end else "0")
        if found:
            yield found


def _told(log: BootLogTail, policy: str) -> Panic | None:
    if policy in _KILLS and not any(line.text.startswith(_WORDS) for line in log.lines):
        return None
    # It takes half a megabyte, which most hosts never need.
    from otel_oom.capture.panic.report import panic_in, truncated_report  # noqa: PLC0415

    return panic_in(log) or truncated_report(log, policy)


def _set_to(policy: Path) -> str:
    return (procfs.read_text(policy, _POLICY_BYTES) or "").strip()


def _with_journal(dump: PstoreDump, boot: PreviousBoot | None) -> BootLogTail:
    """What was stored, behind what the journal has of the same boot, if it is of that boot."""
    log = BootLogTail("pstore", str(dump.folder), dump.lines, unix_ns=dump.unix_ns)
    if boot is None or not _of_one_boot(dump.lines, boot.lines):
        return log
    older = [line for line in boot.lines if line.time_ns < dump.lines[0].time_ns]
    # The journal does not tell who printed a line.
    stored = [replace(line, caller=None) for line in dump.lines]
    return replace(log, lines=[*older, *stored], own=len(older), boot=boot)


def _of_one_boot(stored: Sequence[Line], kept: Sequence[Line]) -> bool:
    """Whether most of the stored lines that the journal should have kept as well are in it.

    Two boots of a host print much the same, and a few lines of it at the same microsecond.
    """
    known = {_mark(line) for line in kept}
    first, last = max(1, kept[0].time_ns), kept[-1].time_ns
    both = [_mark(line) in known for line in stored if first <= line.time_ns <= last]
    return 2 * sum(both) > len(both)


def _mark(line: Line) -> tuple[int, str]:
    """A line's time and text, in the precision of both and without the end that one trims."""
    return line.time_ns // NS_PER_US, line.text.rstrip()
