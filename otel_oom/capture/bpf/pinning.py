"""Pin the kernel side in bpffs: it keeps recording while no agent runs.

The folder has one set of pins for each layout of the records, named by its wire version:

    wire-4/maps/oom_ring …            all state; reused by the next agent
    wire-4/links/sched_process_exit … programs that write it; each agent attaches its own

Each step is one rename or one removal, so that SIGKILL leaves only these names. ``making`` is a set
that never had a link. ``links/new`` is a link before its rename. ``old-1`` and sets of other wire
versions are read out and removed; the next set reuses their marks of the last victims. While a link
is replaced two programs write into the same maps: the second finds what the first has recorded.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from otel_oom.capture.bpf.bpffs import BpffsError, make_pin_dir
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
_OWN_NAMES: Final = re.compile(r"wire-\d+|old-\d+|making")
"""Names of our sets; all else in the folder is left alone."""


class Pins:
    """A locked folder of pins, until :meth:`close`."""

    def __init__(self, folder: Path, library: Libbpf) -> None:
        """Lock ``folder``, which is made if it does not exist.

        Raises:
            BpffsError: it can't be used.
            InUseError: another agent has it.
        """
        self.folder = folder
        self._objects = BpfObjectInfo(library)
        self._current = PinSet(folder / _CURRENT, self._objects)
        self._lock = _lock_folder(folder)
        self._made = False
        self.reused = False
        """True if the maps are those of an earlier agent."""

    def close(self) -> None:
        """Unlock the folder."""
        os.close(self._lock)

    def rollback(self) -> None:
        """Remove the maps that this agent pinned, and unlock the folder."""
        if self._made:
            self._current.remove()
        self.close()

    def reuse_maps(self, opened: BpfObject) -> None:
        """Have ``opened``, which is not loaded yet, use an earlier agent's maps, if there are any.

        Incompatible maps are renamed, to be read out and removed.
        """
        if not self._current.exists:
            self._reuse_marks(opened)
            return
        try:
            self._current.reuse_maps(opened)
        except IncompatiblePinsError as error:
            _LOG.warning(
                "Pins in %s are not compatible with this version, and are replaced: %s",
                self._current.folder,
                error,
            )
            self._rename_current()
            self._reuse_marks(opened)
        else:
            self.reused = not self._made

    def _reuse_marks(self, opened: BpfObject) -> None:
        """Reuse the marks of the newest other set that has compatible ones."""
        for pins in sorted(self.old_sets(), key=_mtime_ns, reverse=True):
            with suppress(IncompatiblePinsError):
                pins.reuse_marks(opened)
                return

    def _rename_current(self) -> None:
        number = 1
        while PinSet(self.folder / f"old-{number}", self._objects).exists:
            number += 1
        self._current.folder.rename(self.folder / f"old-{number}")

    def pin_maps(self, loaded: BpfObject) -> None:
        """Pin the maps of ``loaded``, unless these are the pinned ones.

        Raises:
            BpffsError: the kernel or bpffs rejects it.
        """
        if self._current.exists:
            return
        making = PinSet(self.folder / _MAKING, self._objects)
        making.remove()
        making.pin_maps(loaded)
        making.folder.rename(self._current.folder)
        self._made = True

    def pin_links(self, attached: BpfObject) -> None:
        """Pin the links of ``attached`` in place of an earlier agent's.

        Raises:
            BpffsError: bpffs rejects it.
        """
        if self.reused:
            faults = self._current.validate(attached.links())
            if faults:
                _LOG.warning(
                    "Pins in %s were incomplete, and are replaced: %s. Kills before this start "
                    "may be missing or incomplete",
                    self._current.folder,
                    ", ".join(faults),
                )
        unpinned = self._current.pin_links(attached)
        if unpinned:
            _LOG.warning(
                "Could not pin all programs: kills while no agent runs will lack their data: %s",
                ", ".join(f"{program} ({reason})" for program, reason in unpinned.items()),
            )

    def old_sets(self) -> list[PinSet]:
        """Return the sets to read out and remove once this version is attached."""
        return [pins for pins in self._sets() if pins != self._current]

    def _sets(self) -> list[PinSet]:
        names = sorted(pin.name for pin in self.folder.iterdir() if _OWN_NAMES.fullmatch(pin.name))
        return [PinSet(self.folder / name, self._objects) for name in names]

    def unpin(self) -> int:
        """Remove all pins, and the folder if it is empty then; return the number of unread records.

        The records are removed with the pins.
        """
        unread = 0
        for pins in self._sets():
            pins.detach()
            with suppress(RingError):
                unread += sum(1 for _ in pins.records())
            pins.remove()
        with suppress(OSError):
            self.folder.rmdir()
            self.folder.parent.rmdir()
        return unread


def _mtime_ns(pins: PinSet) -> int:
    return pins.folder.lstat().st_mtime_ns


def _lock_folder(folder: Path) -> int:
    """Return a locked descriptor of ``folder`` itself: bpffs has no files to lock."""
    while True:
        make_pin_dir(folder)
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
        # It may have been unpinned between the two: the lock is then on a removed folder.
        if folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
        os.close(descriptor)
