"""The protocol of event sources."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final, Protocol, Self, runtime_checkable

from msgspec import Struct

from otel_oom.capture.mark_matching import KillMark
from otel_oom.model.events import CapturedEvent, OomKill
from otel_oom.model.loss import LostEvents

PIN_DIR: Final = Path("/sys/fs/bpf/otel-oom/v1")
"""Default folder of pins, in bpffs."""

VMLINUX_BTF: Final = Path("/sys/kernel/btf/vmlinux")
"""The kernel's type information, which libbpf needs."""

Handler = Callable[[CapturedEvent], None]
"""Handles one event; its record is released from the kernel's buffer when this has returned."""

AnnotateKill = Callable[[OomKill], OomKill]
"""Adds to a kill what the kernel log has of it; never waits and never raises."""


class CaptureError(Exception):
    """Kills cannot be captured; the message says why and what to do next."""


class InUseError(CaptureError):
    """Another agent uses the pins; falling back to another source would not help."""


class Source(Protocol):
    """A stream of OOM events with a file descriptor to wait on.

    A context manager: entering attaches to the kernel, leaving detaches.
    """

    name: str
    hook: str
    decision_source: str
    """Hook that reports decisions; empty without one."""
    pinned: bool
    """True if events are still recorded for the next start when this one has ended."""

    def __enter__(self) -> Self:
        """Attach.

        Raises:
            CaptureError: this host does not allow it.
        """

    def __exit__(self, *_: object) -> None:
        """Detach."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when :meth:`drain` has something to do."""

    def drain(self, handler: Handler) -> int:
        """Pass all pending events to ``handler``, oldest first, and return their number.

        Raises what ``handler`` raises. Its event and those after it stay pending.
        """

    def lost_events(self) -> LostEvents:
        """Return the number of events that were lost before they could be read."""


class SourceSet(Struct, frozen=True):
    """``kernel`` captures the kills that the kernel counts, ``others`` further kills."""

    kernel: Source
    others: tuple[Source, ...]

    @property
    def all(self) -> tuple[Source, ...]:
        """All sources."""
        return (self.kernel, *self.others)


@runtime_checkable
class SupportsRequesters(Protocol):
    """A source that knows which daemons requested kills of the kernel."""

    def add_requester(self, kill: OomKill) -> OomKill:
        """Return a kill by sysrq with the daemon that requested it, if one did."""


@runtime_checkable
class SupportsBufferStats(Protocol):
    """A source with a buffer in the kernel."""

    buffer_bytes: int
    """Size of the buffer."""

    def buffered_bytes(self) -> int:
        """Return the size of the pending records."""


@runtime_checkable
class SupportsWithdrawal(Protocol):
    """A source that outlives its process, unless that is withdrawn."""

    def withdraw(self) -> None:
        """Remove what this process added to the kernel and would leave there."""


@runtime_checkable
class SupportsMarks(Protocol):
    """A source whose kernel side keeps marks of its last victims."""

    def read_marks(self, tids: Collection[int]) -> Sequence[KillMark]:
        """Return the marks of threads by their ids, as far as they are kept."""
