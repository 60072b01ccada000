"""The default source: the CO-RE object, loaded by libbpf."""

from __future__ import annotations

import logging
from pathlib import Path

from otel_oom.capture.bpf import libbpf
from otel_oom.capture.bpf.bpffs import BpffsError
from otel_oom.capture.bpf.capabilities import require_bpf_capabilities
from otel_oom.capture.bpf.loader import OBJECT, OBJECT_ADVICE, LoadedObject, attach
from otel_oom.capture.bpf.pin_set import PinSet
from otel_oom.capture.bpf.pinning import Pins
from otel_oom.capture.bpf.ring_source import RING_BYTES, RingSource
from otel_oom.capture.source import VMLINUX_BTF, CaptureError, Handler
from otel_oom.linux import clock

_LOG = logging.getLogger(__name__)


class LibbpfSource(RingSource):
    """Kills out of the ring buffer that ``bpf/oom.bpf.c`` fills; see :class:`Source`."""

    name = "libbpf"

    def __init__(
        self,
        ring_bytes: int = RING_BYTES,
        *,
        want_command: bool = False,
        pin_dir: Path | None = None,
    ) -> None:
        """Prepare, as every source with a ring buffer.

        In ``pin_dir``, a folder of bpffs, the kernel side outlives this process; without one it
        ends with it.
        """
        super().__init__(ring_bytes, want_command=want_command)
        self._pin_dir = pin_dir
        self._pins: Pins | None = None
        self._old: list[PinSet] = []

    def _require(self) -> None:
        require_prerequisites()

    @property
    def _reused(self) -> bool:
        return bool(self._pins and self._pins.reused)

    def _attach(self) -> LoadedObject:
        """Attach and pin, or only attach where nothing can be pinned."""
        self._pins = None
        if self._pin_dir:
            try:
                self._pins = Pins(self._pin_dir, self._library)
                attached = attach(self._library, self._wanted, self._pins)
            except (BpffsError, OSError) as error:
                _LOG.warning(
                    "Not pinned, so of kills while no agent runs only the kernel's log can tell: "
                    "%s",
                    error,
                )
                self._rollback()
            except BaseException:
                self._rollback()
                raise
            else:
                self.pinned = True
                self._old = self._pins.old_sets()
                for old in self._old:
                    old.detach()
                return attached
        return attach(self._library, self._wanted, None)

    def _rollback(self) -> None:
        if self._pins:
            self._pins.rollback()
            self._pins = None

    def __exit__(self, *_: object) -> None:
        """Let go of the kernel side; unless it is pinned, that detaches and unloads it."""
        super().__exit__()
        if self._pins:
            self._pins.close()

    def drain(self, handler: Handler) -> int:
        """Hand over all events that wait, what an earlier version has recorded first."""
        self._offset_ns = clock.boot_to_unix_offset_ns()
        taken = 0
        while self._old:
            old = self._old[0]
            taken += self._take_all(old.records(), handler)
            old.remove()
            del self._old[0]
        return taken + super().drain(handler)


def require_prerequisites() -> None:
    """See that what loading needs is there, before libbpf says it in its own words.

    Raises:
        CaptureError: the first thing that is missing, and how to get it.
    """
    if not OBJECT.exists():
        raise CaptureError(
            f"The BPF object {OBJECT.name} is not in this installation. {OBJECT_ADVICE}"
        )
    if not VMLINUX_BTF.exists():
        raise CaptureError(
            f"This kernel has no BTF ({VMLINUX_BTF} is missing), which BPF programs need to find "
            "their way in it. Use a kernel built with CONFIG_DEBUG_INFO_BTF=y; those of Debian 11, "
            "Ubuntu 20.10, RHEL 8.2 and later have it. Or compile for this one: --source bcc"
        )
    require_bpf_capabilities()
    libbpf.load()
