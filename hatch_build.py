"""Build hook: compile the kernel side into the package before the wheel is packed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ADVICE = (
    "apt-get install clang llvm libbpf-dev make (Debian, Ubuntu), "
    "dnf install clang llvm libbpf-devel make (Fedora)."
)


class BpfBuildHook(BuildHookInterface[Any]):
    """Runs ``make -C bpf``; the wheel is for this platform, not for any."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile ``bpf/`` with clang.

        Raises:
            RuntimeError: the tools are missing or the compilation failed; says what to do.
        """
        del version
        if self.target_name != "wheel":
            return
        missing = [
            tool
            for variable, tool in (
                ("CLANG", "clang"),
                ("LLVM_STRIP", "llvm-strip"),
                ("MAKE", "make"),
            )
            if not shutil.which(os.environ.get(variable, tool))
        ]
        if missing:
            raise RuntimeError(
                f"Building otel-oom needs {' and '.join(missing)} and libbpf's headers: {ADVICE}"
            )
        make = os.environ.get("MAKE", "make")
        done = subprocess.run([make, "-C", Path(self.root, "bpf")], check=False)
        if done.returncode != 0:
            raise RuntimeError(
                "The BPF program did not compile; the compiler's messages are above. "
                f"If it misses libbpf's headers: {ADVICE}"
            )
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["pure_python"] = False
