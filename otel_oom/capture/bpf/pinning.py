"""The kernel side, pinned in bpffs: it goes on recording while no agent is alive.

The folder has one set of pins for each layout of the records, named by its version:

    wire-3/maps/oom_ring …            all state; kept from one agent to the next
    wire-3/links/sched_process_exit … what writes into it; each agent attaches its own for these

Each step is one rename or one removal, so that SIGKILL leaves something with a name: ``making`` is
a set that never had a link, ``links/new`` a link that is not in its place yet, ``old-1`` a set that
is to be emptied and removed, as are those of other versions, but for the marks of the last victims:
the next set goes on with them. While a link is being replaced two programs write into the same
maps, where the second finds what the first has told.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from otel_oom.capture.bpf.bpffs import BpffsError, prepare
from otel_oom.capture.bpf.libbpf import Libbpf
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.object_info import BpfObjectInfo
from otel_oom.capture.bpf.pin_set import IncompatiblePinsError, PinSet
from otel_oom.capture.bpf.records import WIRE_VERSION
from otel_oom.capture.bpf.ring_buffer import RingError
from otel_oom.capture.source import InUseError

_LOG = logging.getLogger(__name__)

_CURRENT: Final = f"wire-{WIRE_VERSION}"
_MAKING: Final = "making"
_OURS: Final = re.compile(r"wire-\d+|old-\d+|making")
"""All else in the folder is left alone."""


class Pins:
    """The one user of a folder of pins, until :meth:`close`."""

    def __init__(self, folder: Path, library: Libbpf) -> None:
        """Take ``folder``, which is made if need be.

        Raises:
            BpffsError: there is no such place.
            InUseError: another agent has it.
        """
        self.folder = folder
        self._objects = BpfObjectInfo(library)
        self._current = PinSet(folder / _CURRENT, self._objects)
        self._lock = _locked(folder)
        self._made = False
        self.reused = False
        """Whether there was a state of an earlier agent to go on with."""

    def close(self) -> None:
        """Let another have the folder."""
        os.close(self._lock)

    def rollback(self) -> None:
        """Close, and leave no maps that nothing writes into."""
        if self._made:
            self._current.remove()
        self.close()

    def reuse_maps(self, opened: BpfObject) -> None:
        """Give ``opened``, which is not loaded yet, the maps of an earlier agent, if there are any.

        If they are not what it needs, they are set aside, to be emptied.
        """
        if not self._current.exists:
            self._reuse_marks(opened)
            return
        try:
            self._current.reuse_maps(opened)
        except IncompatiblePinsError as error:
            _LOG.warning(
                "The pins in %s are not those of this version, and are replaced: %s",
                self._current.folder,
                error,
            )
            self._set_aside()
            self._reuse_marks(opened)
        else:
            self.reused = not self._made

    def _reuse_marks(self, opened: BpfObject) -> None:
        """Have the marks go on from the newest other set that has any, whatever its records."""
        for each in sorted(self.old_sets(), key=_made_at, reverse=True):
            with suppress(IncompatiblePinsError):
                each.reuse_marks(opened)
                return

    def _set_aside(self) -> None:
        number = 1
        while PinSet(self.folder / f"old-{number}", self._objects).exists:
            number += 1
        self._current.folder.rename(self.folder / f"old-{number}")

    def pin_maps(self, loaded: BpfObject) -> None:
        """Pin the maps of ``loaded``, unless they are those that are pinned.

        Raises:
            BpffsError: the kernel or bpffs refuses.
        """
        if self._current.exists:
            return
        making = PinSet(self.folder / _MAKING, self._objects)
        making.remove()
        making.pin_maps(loaded)
        making.folder.rename(self._current.folder)
        self._made = True

    def pin_links(self, attached: BpfObject) -> None:
        """Pin what ``attached`` is attached by, in the place of an earlier agent's.

        Raises:
            BpffsError: bpffs refuses.
        """
        if self.reused:
            flaws = self._current.validate(attached.links())
            if flaws:
                _LOG.warning(
                    "The pins in %s were not whole, and are replaced: %s. Kills of before this "
                    "start may be missing, or told with less",
                    self._current.folder,
                    ", ".join(flaws),
                )
        refused = self._current.pin_links(attached)
        if refused:
            _LOG.warning(
                "Not all can be pinned. These end with the agent, and what they tell is missing "
                "from kills while none runs: %s",
                ", ".join(f"{program} ({reason})" for program, reason in refused.items()),
            )

    def old_sets(self) -> list[PinSet]:
        """What is to be emptied and removed once this version is attached."""
        return [each for each in self._sets() if each != self._current]

    def _sets(self) -> list[PinSet]:
        names = sorted(pin.name for pin in self.folder.iterdir() if _OURS.fullmatch(pin.name))
        return [PinSet(self.folder / name, self._objects) for name in names]

    def unpin(self) -> int:
        """Remove all pins, the folder too if that was all; how many records go with them."""
        untaken = 0
        for each in self._sets():
            each.detach()
            with suppress(RingError):
                untaken += sum(1 for _ in each.records())
            each.remove()
        with suppress(OSError):
            self.folder.rmdir()
            self.folder.parent.rmdir()
        return untaken


def _made_at(pins: PinSet) -> int:
    return pins.folder.lstat().st_mtime_ns


def _locked(folder: Path) -> int:
    """A descriptor of ``folder`` whose lock is ours; bpffs has no files for one."""
    while True:
        prepare(folder)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise BpffsError(f"{folder} can't be opened ({error.strerror})") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise InUseError(
                f"Another otel-oom already captures by the pins in {folder}. "
                "Stop it first, or give this one a --pin-dir of its own, or --no-pin."
            ) from None
        # It may have been unpinned between the two: then the lock is on what is gone.
        if folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
        os.close(descriptor)
