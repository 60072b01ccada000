"""A set of pins: the maps with the state of the kernel side, and the links that write them."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.capture.bpf import marks
from otel_oom.capture.bpf.bpffs import BpffsError
from otel_oom.capture.bpf.libbpf import LibbpfError
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.object_info import LINK, MAP, BpfObjectInfo
from otel_oom.capture.bpf.ring_buffer import RingBuffer

RING: Final = "oom_ring"
START_TEXT_MAP: Final = "oom_start_texts"
MAPPINGS_MAP: Final = "oom_mappings"
MAPPINGS_PROGRAM: Final = "mark_victim_mappings"
_MARK_MAPS: Final = (marks.MARKS, marks.COUNT)
"""Maps that are reused across wire versions too."""
STATE_MAPS: Final = (
    RING,
    "oom_counters",
    "oom_reported",
    "oom_victims",
    "oom_threads",
    "oom_decision",
    "oom_ratelimits",
    "oom_ring_usage",
    "oom_lost_kills",
    START_TEXT_MAP,
    MAPPINGS_MAP,
    *_MARK_MAPS,
)
"""Maps that outlive their programs."""

_OTHER_OUTPUTS: Final = {MAPPINGS_PROGRAM: MAPPINGS_MAP}
"""The map that a program writes, where it is not the ring."""

_NEW: Final = "new"
_RING_TYPE: Final = 27
"""BPF_MAP_TYPE_RINGBUF."""


class IncompatiblePinsError(Exception):
    """Pins that are not what their names say; the message says how they differ."""


class PinSet(Struct, frozen=True):
    """Pins in one folder of bpffs: ``maps/oom_ring``, ``links/sched_process_exit`` and so on."""

    folder: Path
    objects: BpfObjectInfo

    @property
    def exists(self) -> bool:
        """Return true if the folder exists, as a file of any type."""
        return os.path.lexists(self.folder)

    def reuse_maps(self, opened: BpfObject) -> None:
        """Have ``opened``, which is not loaded yet, use these maps.

        Raises:
            IncompatiblePinsError: a map is missing or has another definition.
        """
        self._reuse(opened, STATE_MAPS)

    def reuse_marks(self, opened: BpfObject) -> None:
        """Have ``opened`` use only the maps that identify kills of the past.

        Raises:
            IncompatiblePinsError: as for :meth:`reuse_maps`.
        """
        self._reuse(opened, _MARK_MAPS)

    def _reuse(self, opened: BpfObject, names: Sequence[str]) -> None:
        if self.folder.is_symlink():
            # Its target has a name of its own, by which it may be removed.
            raise IncompatiblePinsError(f"{self.folder} is a symbolic link")
        descriptors: dict[str, int] = {}
        try:
            for name in names:
                descriptors[name] = self._open_map(name)
                self._require_shape(descriptors[name], opened, name)
            for name, descriptor in descriptors.items():
                opened.reuse(name, descriptor)
        except LibbpfError as error:
            raise IncompatiblePinsError(str(error)) from error
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)

    def _open_map(self, name: str) -> int:
        return self.objects.get(self.folder / "maps" / name, MAP)

    def _require_shape(self, descriptor: int, opened: BpfObject, name: str) -> None:
        _, pinned = self.objects.map(descriptor)
        needed = opened.shape(name)
        if pinned != needed:
            raise IncompatiblePinsError(f"{name} is {pinned}, not {needed}")

    def pin_maps(self, loaded: BpfObject) -> None:
        """Make this set out of the maps of ``loaded``.

        Raises:
            BpffsError: the kernel or bpffs rejects it.
        """
        try:
            for folder in (self.folder, self.folder / "maps", self.folder / "links"):
                folder.mkdir(mode=0o700)
            for name in STATE_MAPS:
                self.objects.pin(loaded.map_fd(name), self.folder / "maps" / name)
        except (LibbpfError, OSError) as error:
            raise BpffsError(str(error)) from error

    def pin_links(self, attached: BpfObject) -> dict[str, str]:
        """Replace the pinned links one by one with those of ``attached``.

        Returns:
            The reason by program for each link that can't be pinned; it ends with this process.

        Raises:
            BpffsError: bpffs rejects it.
        """
        folder, links = self.folder / "links", attached.links()
        unpinned: dict[str, str] = {}
        try:
            if folder.is_symlink() or not folder.is_dir():
                remove(folder)
                folder.mkdir(mode=0o700)
            for program, descriptor in links.items():
                try:
                    self._replace(folder / program, descriptor)
                except LibbpfError as error:
                    unpinned[program] = os.strerror(error.code)
                else:
                    attached.disconnect_link(program)
            for pin in folder.iterdir():
                if pin.name not in links or pin.name in unpinned:
                    remove(pin)
        except OSError as error:
            raise BpffsError(str(error)) from error
        return unpinned

    def _replace(self, pin: Path, descriptor: int) -> None:
        new = pin.with_name(_NEW)
        remove(new)
        self.objects.pin(descriptor, new)
        if pin.is_dir():
            remove(pin)
        new.rename(pin)

    def validate(self, programs: Collection[str]) -> list[str]:
        """Return the ``programs`` whose pinned links do not write this set's maps, and why.

        A link is attached as long as it exists: those used here can't be detached otherwise.

        Raises:
            LibbpfError: a map is missing.
        """
        ring_id = self._map_id(RING)
        outputs = {name: self._map_id(map_) for name, map_ in _OTHER_OUTPUTS.items()}
        faults = {
            name: self._fault(self.folder / "links" / name, outputs.get(name, ring_id))
            for name in programs
        }
        return [f"{name} {fault}" for name, fault in faults.items() if fault]

    def _map_id(self, name: str) -> int:
        descriptor = self._open_map(name)
        try:
            return self.objects.map(descriptor)[0]
        finally:
            os.close(descriptor)

    def _fault(self, path: Path, output_id: int) -> str:
        try:
            link = self.objects.get(path, LINK)
        except LibbpfError as error:
            return "was not pinned" if error.code == errno.ENOENT else "was not a link"
        try:
            writes_output = output_id in self.objects.maps_of_link(link)
        except LibbpfError as error:
            # Without CAP_SYS_ADMIN the kernel does not disclose the program.
            writes_output = error.code == errno.EPERM
        finally:
            os.close(link)
        return "" if writes_output else "wrote elsewhere"

    def detach(self) -> None:
        """Detach all programs; the records stay."""
        remove(self.folder / "links")

    def records(self) -> Iterator[bytes]:
        """Yield the records in its ring; see :meth:`RingBuffer.records`.

        Raises:
            RingError: the ring is corrupt.
        """
        try:
            descriptor = self._open_map(RING)
        except LibbpfError:
            return
        try:
            _, shape = self.objects.map(descriptor)
            if shape.type != _RING_TYPE:
                return
            ring = RingBuffer(descriptor, shape.max_entries)
            try:
                yield from ring.records()
            finally:
                ring.close()
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """Unpin all of it, with whatever else is in its folder."""
        remove(self.folder)


def remove(path: Path) -> None:
    """Remove a pin or a folder of pins, if it exists; symbolic links are not followed."""
    if not path.is_symlink() and path.is_dir():
        for entry in path.iterdir():
            remove(entry)
        path.rmdir()
    else:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
