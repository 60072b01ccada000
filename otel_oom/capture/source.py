"""What every source of OOM kills is to the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final, Protocol, Self, runtime_checkable

from otel_oom.capture.mark_matching import KillMark
from otel_oom.model.events import CapturedEvent, LostEvents

PIN_DIR: Final = Path("/sys/fs/bpf/otel-oom/v1")
"""Where the kernel side outlives the process, unless the user names another folder of bpffs."""

VMLINUX_BTF: Final = Path("/sys/kernel/btf/vmlinux")
"""The kernel's type information, by which libbpf finds its way in it."""

Handler = Callable[[CapturedEvent], None]
"""Takes one event; the record leaves the kernel's buffer only when it has returned."""


class CaptureError(Exception):
    """Kills cannot be captured; the message says why and what to do next."""


class InUseError(CaptureError):
    """Another agent has what this one was told to use: no other source is an answer to that."""


class Source(Protocol):
    """A stream of OOM kills with a file descriptor to wait on.

    A context manager: entering attaches to the kernel, leaving detaches.
    """

    name: str
    hook: str
    decision_source: str
    """The hook that tells of decisions; empty where there is none."""
    pinned: bool
    """Whether the kernel goes on recording for the next start when this one has ended."""

    def __enter__(self) -> Self:
        """Attach.

        Raises:
            CaptureError: this host does not allow it.
        """

    def __exit__(self, *_: object) -> None:
        """Detach."""

    def fileno(self) -> int:
        """A descriptor that is readable when :meth:`drain` has something to do."""

    def drain(self, handler: Handler) -> int:
        """Hand over all events that wait, oldest first, and return their number.

        Raises whatever ``handler`` raised, after which the events behind that one still wait.
        """

    def lost_events(self) -> LostEvents:
        """What the kernel side had no room for."""


@runtime_checkable
class SupportsBufferStats(Protocol):
    """A source whose kernel side has a buffer that can be looked at without emptying it."""

    buffer_bytes: int
    """What it can hold."""

    def buffered_bytes(self) -> int:
        """How many bytes it holds now."""


@runtime_checkable
class SupportsMarks(Protocol):
    """A source whose kernel side remembers its last victims when their records are gone."""

    def read_marks(self, tids: Collection[int]) -> Sequence[KillMark]:
        """The marks of threads by their ids, as far as they are remembered."""
