"""``otel-oom unpin``: end what goes on in the kernel while no agent runs."""

from __future__ import annotations

import sys
from pathlib import Path

from otel_oom.capture.bpf.bpffs import BpffsError
from otel_oom.capture.bpf.libbpf import Libbpf
from otel_oom.capture.bpf.pinning import Pins


def unpin(folder: Path) -> int:
    """Detach what is pinned in ``folder`` and remove it; the exit code.

    Raises:
        CaptureError: there is no libbpf.
        InUseError: an agent captures by these pins.
    """
    if not folder.exists():
        sys.stdout.write(f"Nothing is pinned in {folder}\n")
        return 0
    try:
        pins = Pins(folder, Libbpf())
    except BpffsError as error:
        sys.stderr.write(f"otel-oom: {error}\n")
        return 1
    untaken = pins.unpin()
    pins.close()
    sys.stdout.write(f"Removed what was pinned in {folder}\n")
    if untaken:
        sys.stderr.write(f"{untaken} records that no agent had taken went with it\n")
    return 0
