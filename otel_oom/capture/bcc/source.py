"""The source for kernels without BTF: compiled by BCC on the host that it runs on.

What is compiled is `bpf/bcc/oom.bcc.c`; its records are those of `bpf/oom.bpf.c`, and so is what is
done with them here. BCC itself works in another process, which ends when all is attached, and its
compiler with it. Its `ring_buffer_poll()` is not used either: that lets go of a record whatever
became of it. Nothing of this can be pinned.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from otel_oom.capture.bcc import child_main
from otel_oom.capture.bcc.child import hand_over
from otel_oom.capture.bcc.kernel_headers import KernelHeaders
from otel_oom.capture.bpf import libbpf
from otel_oom.capture.bpf.capabilities import require_bpf_capabilities
from otel_oom.capture.bpf.loader import LoadedObject
from otel_oom.capture.bpf.maps import InheritedMaps
from otel_oom.capture.bpf.ring_source import RING_BYTES, RingSource

SOURCE: Final = Path(__file__).with_name("bpf_source")
"""A copy of `bpf/`: `make -C bpf` puts it there."""


class BccSource(RingSource):
    """Kills out of the ring buffer that ``bpf/bcc/oom.bcc.c`` fills; see :class:`Source`.

    What is killed while no agent runs, only the kernel's log tells.
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

        ``interpreters`` are tried for BCC in this order: by default our own, if it has a module
        of that name, and the system's.
        """
        super().__init__(ring_bytes, want_command=want_command)
        self._interpreters = interpreters

    def _require(self) -> None:
        require_bpf_capabilities()
        self._headers = KernelHeaders.find(os.environ)
        libbpf.load_library()

    def _attach(self) -> LoadedObject:
        given = hand_over(
            {
                "source": str(SOURCE),
                "headers": [str(folder) for folder in self._headers.include],
                "page_size": os.sysconf("SC_PAGE_SIZE"),
                "ring_bytes": self._options.ring_bytes,
                "command": self._options.command,
            },
            self._interpreters,
        )
        names = given.reply["maps"]
        maps = dict(zip(names, given.descriptors, strict=False))
        held = InheritedMaps(self._library, maps, given.descriptors[len(names) :])
        unavailable: dict[str, str] = given.reply["unavailable"]
        decision_source = "" if unavailable else child_main.CONTEXT_HOOK
        return LoadedObject(held, child_main.MARK_HOOK, decision_source, unavailable)
