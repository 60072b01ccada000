"""Find the headers of the running kernel, which BCC compiles against."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.capture.source import CaptureError

VARIABLE: Final = "BCC_KERNEL_SOURCE"
"""BCC's own variable: the folder of the headers, if they are not in the usual place."""

_MODULES: Final = Path("/lib/modules")
_RELEASE: Final = re.compile(r'#define UTS_RELEASE "([^"]*)"')


class KernelHeaders(Struct, frozen=True):
    """Folders of the headers; Debian has those common to all architectures in another one."""

    build: Path
    source: Path

    @property
    def include(self) -> tuple[Path, ...]:
        """Folders in which ``<linux/…>`` and ``<generated/…>`` are searched."""
        return self.source / "include", self.build / "include"

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> KernelHeaders:
        """Find the headers that BCC will use.

        Raises:
            CaptureError: they are missing, or of another kernel, whose structures differ.
        """
        release = os.uname().release
        configured = environ.get(VARIABLE)
        folder = Path(configured) if configured else _MODULES / release / "build"
        common = folder if configured else _MODULES / release / "source"
        advice = (
            f"Install them: apt-get install linux-headers-{release} (Debian, Ubuntu), "
            f"dnf install kernel-devel-{release} (Fedora)."
        )
        try:
            text = (folder / "include/generated/utsrelease.h").read_text(encoding="utf-8")
        except OSError:
            raise CaptureError(
                f"BCC needs the headers of this kernel, and {folder} has none. {advice} If they "
                f"are elsewhere, set {VARIABLE} to their folder."
            ) from None
        match = _RELEASE.search(text)
        if match is None or match[1] != release:
            raise CaptureError(
                f"The headers in {folder} are those of {match[1] if match else 'no kernel'}, and "
                f"this is {release}. {advice}"
            )
        return cls(folder, common if common.is_dir() else folder)
