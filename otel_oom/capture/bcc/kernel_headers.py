"""The headers of the running kernel, which BCC compiles against."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.capture.source import CaptureError

VARIABLE: Final = "BCC_KERNEL_SOURCE"
"""BCC's own variable: the folder of the headers, where they are not in the usual place."""

_MODULES: Final = Path("/lib/modules")
_RELEASE: Final = re.compile(r'#define UTS_RELEASE "([^"]*)"')


@dataclass(frozen=True, slots=True)
class KernelHeaders:
    """Where they are; Debian has what the architectures share in a folder of its own."""

    build: Path
    source: Path

    @property
    def include(self) -> tuple[Path, ...]:
        """The folders that ``<linux/…>`` and ``<generated/…>`` are looked for in."""
        return self.source / "include", self.build / "include"

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> KernelHeaders:
        """Those that BCC will take, if they are this kernel's.

        Raises:
            CaptureError: there are none, or those of another kernel, whose structures differ.
        """
        release = os.uname().release
        named = environ.get(VARIABLE)
        folder = Path(named) if named else _MODULES / release / "build"
        shared = folder if named else _MODULES / release / "source"
        found = cls(folder, shared if shared.is_dir() else folder)
        advice = (
            f"Install them: apt-get install linux-headers-{release} (Debian, Ubuntu), "
            f"dnf install kernel-devel-{release} (Fedora)."
        )
        try:
            text = (folder / "include/generated/utsrelease.h").read_text(encoding="utf-8")
        except OSError:
            raise CaptureError(
                f"BCC needs the headers of this kernel, and {folder} has none. {advice} If they "
                f"are elsewhere, {VARIABLE} can say where."
            ) from None
        told = _RELEASE.search(text)
        if told is None or told[1] != release:
            raise CaptureError(
                f"The headers in {folder} are those of {told[1] if told else 'no kernel'}, and "
                f"this is {release}. {advice}"
            )
        return found
