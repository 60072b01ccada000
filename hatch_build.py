"""Build hook: compile the kernel side into the package before the wheel is packed.

The variable OTEL_OOM_WHEEL makes a wheel for others, as scripts/build_distributions.py does: it
names the machine, and the wheel contains a libbpf. Without the variable the wheel is for this host
and uses the libbpf of the system. OTEL_OOM_NATIVE_BUILD is a folder that keeps compiled objects
from one build to the next.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ADVICE = (
    "apt-get install clang llvm libbpf-dev make (Debian, Ubuntu), "
    "dnf install clang llvm libbpf-devel make (Fedora)."
)
MACHINES = ("x86_64", "aarch64")
PACKAGE = "otel_oom/capture/bpf"


class BpfBuildHook(BuildHookInterface[Any]):
    """Runs ``make -C bpf``; the wheel is for one platform, not for any."""

    _built: tempfile.TemporaryDirectory[str] | None = None

    def dependencies(self) -> list[str]:
        """Name the compiler of libbpf, where the wheel is to contain it."""
        return ["ziglang==0.17.1"] if os.environ.get("OTEL_OOM_WHEEL") else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile ``bpf/`` with clang, and ``native/`` where the wheel is for others.

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
        build_data["pure_python"] = False
        if machine := os.environ.get("OTEL_OOM_WHEEL"):
            self._build_portable(machine, build_data)
            return
        self._make("bpf")
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled outside of the tree."""
        del version, build_data, artifact_path
        if self._built:
            self._built.cleanup()

    def _build_portable(self, machine: str, build_data: dict[str, Any]) -> None:
        """Compile outside of the tree, where no object of another machine may be left."""
        if machine not in MACHINES:
            raise RuntimeError(f"OTEL_OOM_WHEEL={machine}: not one of {', '.join(MACHINES)}.")
        headers = Path(self.root, "native/vendor/libbpf/src")
        if not headers.is_dir():
            raise RuntimeError(
                f"{headers} is missing: build from the source distribution, "
                "or run scripts/vendor_sources.py first."
            )
        self._built = tempfile.TemporaryDirectory()
        folder = Path(self._built.name)
        # `bpf/bpf_helpers.h` is the name of an installed header.
        (folder / "include").mkdir()
        (folder / "include/bpf").symlink_to(headers)
        bpf_object, library = folder / "oom.bpf.o", folder / "libbpf.so.1"
        self._make("bpf", MACHINE=machine, OUT=bpf_object, BPF_INCLUDE=folder / "include")
        objects = Path(os.environ.get("OTEL_OOM_NATIVE_BUILD", folder), machine)
        self._make("native", MACHINE=machine, OUT=library, BUILD=objects, PYTHON=sys.executable)
        build_data["force_include"] = {
            str(path): f"{PACKAGE}/{path.name}" for path in (bpf_object, library)
        }
        build_data["tag"] = f"py3-none-manylinux_2_17_{machine}"

    def _make(self, folder: str, **variables: object) -> None:
        make = os.environ.get("MAKE", "make")
        words = [f"{name}={value}" for name, value in variables.items()]
        jobs = f"-j{len(os.sched_getaffinity(0))}"
        done = subprocess.run([make, jobs, "-C", Path(self.root, folder), *words], check=False)
        if done.returncode != 0:
            raise RuntimeError(
                f"{folder}/ did not compile; the compiler's messages are above. "
                f"If it misses libbpf's headers: {ADVICE}"
            )
