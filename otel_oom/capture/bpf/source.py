"""The default source: the CO-RE object, loaded by libbpf."""

from __future__ import annotations

import logging
from pathlib import Path

from otel_oom.capture.bpf import libbpf
from otel_oom.capture.bpf.bpffs import BpffsError
from otel_oom.capture.bpf.capabilities import require_bpf_rights
from otel_oom.capture.bpf.loader import OBJECT, OBJECT_ADVICE, LoadedObject, load_and_attach
from otel_oom.capture.bpf.pin_set import PinSet
from otel_oom.capture.bpf.pinning import Pins
from otel_oom.capture.bpf.ring_source import RING_BYTES, RingSource
from otel_oom.capture.source import VMLINUX_BTF, CaptureError, Handler
from otel_oom.linux import clock

_LOG = logging.getLogger(__name__)


class LibbpfSource(RingSource):
    """Events from the ring buffer that ``bpf/oom.bpf.c`` fills; see :class:`Source`."""

    name = "libbpf"

    def __init__(
        self,
        ring_bytes: int = RING_BYTES,
        *,
        want_command: bool = False,
        pin_dir: Path | None = None,
    ) -> None:
        """Prepare, as every source with a ring buffer.

        In ``pin_dir``, a folder of bpffs, the kernel side outlives this process.
        """
        super().__init__(ring_bytes, want_command=want_command)
        self._pin_dir = pin_dir
        self._pins: Pins | None = None
        self._old_sets: list[PinSet] = []

    def _require(self) -> None:
        require_prerequisites()

    def _attach(self) -> LoadedObject:
        """Attach and pin; only attach where nothing can be pinned."""
        self._pins = None
        if self._pin_dir:
            try:
                self._pins = Pins(self._pin_dir, self._library)
                loaded = load_and_attach(self._library, self._options, self._pins)
            except (BpffsError, OSError) as error:
                _LOG.warning(
                    "Could not pin BPF objects: without an agent, only the kernel log records "
                    "kills: %s",
                    error,
                )
                self._rollback()
            except BaseException:
                self._rollback()
                raise
            else:
                self.pinned = True
                self._old_sets = self._pins.old_sets()
                for old_set in self._old_sets:
                    old_set.detach()
                return loaded
        return load_and_attach(self._library, self._options, None)

    def withdraw(self) -> None:
        """Remove the pins that this process made; those of an earlier one stay.

        Pins that replace incompatible ones stay, too: nothing else would record kills.
        """
        if not self._old_sets:
            self._rollback()

    def _rollback(self) -> None:
        if self._pins:
            self._pins.rollback()
            self._pins = None

    def __exit__(self, *_: object) -> None:
        """Close the kernel side; unless it is pinned, that detaches and unloads it."""
        super().__exit__()
        if self._pins:
            self._pins.close()

    def drain(self, handler: Handler) -> int:
        """Pass all events to ``handler``, those that an earlier version recorded first."""
        self._offset_ns = clock.boot_to_unix_offset_ns()
        count = 0
        while self._old_sets:
            old_set = self._old_sets[0]
            count += self._drain_records(old_set.records(), handler)
            old_set.remove()
            del self._old_sets[0]
        return count + super().drain(handler)


def require_prerequisites() -> None:
    """Check what loading needs, for errors that say more than libbpf's.

    Raises:
        CaptureError: the first thing that is missing, and how to get it.
    """
    if not OBJECT.exists():
        raise CaptureError(
            f"The BPF object {OBJECT.name} is not in this installation. {OBJECT_ADVICE}"
        )
    if not VMLINUX_BTF.exists():
        raise CaptureError(
            f"This kernel has no BTF ({VMLINUX_BTF} is missing), which BPF programs need to read "
            "its structures. Use a kernel built with CONFIG_DEBUG_INFO_BTF=y; those of Debian 11, "
            "Ubuntu 20.10, RHEL 8.2 and later have it. Or compile for this one: --source bcc"
        )
    require_bpf_rights()
    libbpf.load_library()
