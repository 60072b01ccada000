"""One set of pins: the maps that hold the state of the kernel side, and the links that write it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.capture.bpf import marks
from otel_oom.capture.bpf.bpffs import BpffsError
from otel_oom.capture.bpf.libbpf import LibbpfError
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.object_info import LINK, MAP, BpfObjectInfo
from otel_oom.capture.bpf.ring_buffer import RingBuffer

_LOG = logging.getLogger(__name__)

RING: Final = "oom_ring"
_MARKS: Final = (marks.MARKS, marks.COUNT)
"""Those that outlive the layout of the records too."""
_STATE: Final = (
    RING,
    "oom_counters",
    "oom_reported",
    "oom_victims",
    "oom_threads",
    "oom_decision",
    "oom_ratelimits",
    *_MARKS,
)
"""The maps that outlive their programs."""

_NEW: Final = "new"
_RING_TYPE: Final = 27
"""BPF_MAP_TYPE_RINGBUF."""


class IncompatiblePinsError(Exception):
    """What is pinned is not what its name says; the message says how."""


@dataclass(frozen=True, slots=True)
class PinSet:
    """Pins in one folder of bpffs: ``maps/oom_ring``, ``links/sched_process_exit`` and so on."""

    folder: Path
    objects: BpfObjectInfo

    @property
    def exists(self) -> bool:
        """Whether there is anything of that name."""
        return os.path.lexists(self.folder)

    def reuse_maps(self, opened: BpfObject) -> None:
        """Give ``opened``, which is not loaded yet, these maps in the place of its own.

        Raises:
            StrangeError: they are not all there, or not of the shape that it needs.
        """
        self._lend(opened, _STATE)

    def reuse_marks(self, opened: BpfObject) -> None:
        """Likewise those alone that name kills which were told long since."""
        self._lend(opened, _MARKS)

    def _lend(self, opened: BpfObject, names: Sequence[str]) -> None:
        if self.folder.is_symlink():
            # What it leads to has a name of its own, by which it may be removed.
            raise IncompatiblePinsError(f"{self.folder} is a symbolic link")
        descriptors: dict[str, int] = {}
        try:
            for name in names:
                descriptors[name] = self._map(name)
                self._compare(descriptors[name], opened, name)
            for name, descriptor in descriptors.items():
                opened.reuse(name, descriptor)
        except LibbpfError as error:
            raise IncompatiblePinsError(str(error)) from error
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)

    def _map(self, name: str) -> int:
        return self.objects.get(self.folder / "maps" / name, MAP)

    def _compare(self, descriptor: int, opened: BpfObject, name: str) -> None:
        _, found = self.objects.map(descriptor)
        needed = opened.shape(name)
        if found != needed:
            raise IncompatiblePinsError(f"{name} is {found}, not {needed}")

    def pin_maps(self, loaded: BpfObject) -> None:
        """Make this set out of the maps of ``loaded``.

        Raises:
            BpffsError: the kernel or bpffs refuses.
        """
        try:
            for folder in (self.folder, self.folder / "maps", self.folder / "links"):
                folder.mkdir(mode=0o700)
            for name in _STATE:
                self.objects.pin(loaded.map_fd(name), self.folder / "maps" / name)
        except (LibbpfError, OSError) as error:
            raise BpffsError(str(error)) from error

    def pin_links(self, attached: BpfObject) -> dict[str, str]:
        """Pin what ``attached`` is attached by in the place of what was, one by one.

        What can't be pinned ends with this process; the reasons are returned.

        Raises:
            BpffsError: bpffs refuses.
        """
        folder, links = self.folder / "links", attached.links()
        refused: dict[str, str] = {}
        try:
            if folder.is_symlink() or not folder.is_dir():
                remove(folder)
                folder.mkdir(mode=0o700)
            for program, descriptor in links.items():
                try:
                    self._replace(folder / program, descriptor)
                except LibbpfError as error:
                    refused[program] = os.strerror(error.code)
                else:
                    attached.disconnect_link(program)
            for pin in folder.iterdir():
                if pin.name not in links or pin.name in refused:
                    remove(pin)
        except OSError as error:
            raise BpffsError(str(error)) from error
        return refused

    def _replace(self, place: Path, descriptor: int) -> None:
        new = place.with_name(_NEW)
        remove(new)
        self.objects.pin(descriptor, new)
        if place.is_dir():
            remove(place)
        new.rename(place)

    def validate(self, expected: Collection[str]) -> list[str]:
        """Which of the ``expected`` links do not write into this set's ring, and why not.

        A link is attached as long as it is there: those used here can't be detached otherwise.

        Raises:
            LibbpfError: there is no ring.
        """
        ring = self._map(RING)
        try:
            ring_id, _ = self.objects.map(ring)
        finally:
            os.close(ring)
        flaws = {name: self._flaw(self.folder / "links" / name, ring_id) for name in expected}
        return [f"{name} {flaw}" for name, flaw in flaws.items() if flaw]

    def _flaw(self, path: Path, ring_id: int) -> str:
        try:
            link = self.objects.get(path, LINK)
        except LibbpfError as error:
            return "was not pinned" if error.code == errno.ENOENT else "was no link"
        try:
            of_ours = ring_id in self.objects.maps_of_link(link)
        except LibbpfError as error:
            # Without CAP_SYS_ADMIN the kernel does not say which program it is.
            of_ours = error.code == errno.EPERM
        finally:
            os.close(link)
        return "" if of_ours else "wrote elsewhere"

    def detach(self) -> None:
        """Have nothing write into it any more; what was written stays."""
        remove(self.folder / "links")

    def records(self) -> Iterator[bytes]:
        """What is in its ring; see :meth:`RingBuffer.records`.

        Raises:
            RingError: it is damaged.
        """
        try:
            descriptor = self._map(RING)
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
        """Give it back to the kernel, with whatever else is in its folder."""
        remove(self.folder)


def remove(path: Path) -> None:
    """Remove a pin or a folder of pins, if it is there; symbolic links are not followed."""
    if not path.is_symlink() and path.is_dir():
        for each in path.iterdir():
            remove(each)
        path.rmdir()
    else:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
