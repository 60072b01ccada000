"""The source for kernels without BTF: BCC compiles it on the host.

It compiles `bpf/bcc/oom.bcc.c`, whose records are those of `bpf/oom.bpf.c`. BCC works in another
process, which ends with its compiler once all is attached. Its `ring_buffer_poll()` is not used, as
that releases a record in any case. Nothing can be pinned.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from otel_oom.capture.bcc import child_main
from otel_oom.capture.bcc.child import receive_fds
from otel_oom.capture.bcc.kernel_headers import KernelHeaders
from otel_oom.capture.bpf import libbpf
from otel_oom.capture.bpf.capabilities import require_bpf_rights
from otel_oom.capture.bpf.loader import LoadedObject
from otel_oom.capture.bpf.maps import InheritedMaps
from otel_oom.capture.bpf.ring_source import RING_BYTES, RingSource

SOURCE: Final = Path(__file__).with_name("bpf_source")
"""A copy of `bpf/` that `make -C bpf` makes."""


class BccSource(RingSource):
    """Events from the ring buffer that ``bpf/bcc/oom.bcc.c`` fills; see :class:`Source`.

    Kills while no agent runs are only in the kernel log.
    """

    name = "bcc"

    def __init__(
        self,
        ring_bytes: int = RING_BYTES,
        *,
        want_command: bool = False,
        interpreters: Sequence[str] = (),
    ) -> None:
        """Prepare, as every source with a ring buffer.

        ``interpreters`` are tried for BCC in this order; by default our own, if it has a module of
        that name, and the system's.
        """
        super().__init__(ring_bytes, want_command=want_command)
        self._interpreters = interpreters

    def _require(self) -> None:
        require_bpf_rights()
        self._headers = KernelHeaders.find(os.environ)
        libbpf.load_library()

    def _attach(self) -> LoadedObject:
        transfer = receive_fds(
            {
                "source": str(SOURCE),
                "headers": [str(folder) for folder in self._headers.include],
                "page_size": os.sysconf("SC_PAGE_SIZE"),
                "ring_bytes": self._options.ring_bytes,
                "command": self._options.command,
            },
            self._interpreters,
        )
        names = transfer.reply["maps"]
        descriptors = dict(zip(names, transfer.descriptors, strict=False))
        maps = InheritedMaps(self._library, descriptors, transfer.descriptors[len(names) :])
        unavailable: dict[str, str] = transfer.reply["unavailable"]
        decision_source = "" if unavailable else child_main.DECISION_HOOK
        return LoadedObject(maps, child_main.VICTIM_HOOK, decision_source, unavailable)
