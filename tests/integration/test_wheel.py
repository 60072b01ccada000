"""The distributions of `make dist`: their content, and that two builds are equal."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

from otel_oom import __version__
from tests.testlib.command import run_command
from tests.testlib.distribution import (
    CONTENTS,
    build_distributions,
    built_sdist,
    built_wheel,
    copy_sources,
)
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require_programs

pytestmark = pytest.mark.slow

MACHINES = ("x86_64", "aarch64")
INFO = f"otel_oom-{__version__}.dist-info"
BPF = "otel_oom/capture/bpf"
LICENSES = {
    *("LICENSE", "bpf/LICENSE.BSD-3-Clause", "bpf/LICENSE.GPL-2.0-only", "native/NOTICE"),
    *(f"native/vendor/elfutils/COPYING{name}" for name in ("", "-GPLV2", "-LGPLV3")),
    *(f"native/vendor/libbpf/LICENSE{name}" for name in ("", ".BSD-2-Clause", ".LGPL-2.1")),
    "native/vendor/zlib/LICENSE",
}
FIRST_ARGUMENT = {"x86_64": 112, "aarch64": 0}
"""Offset of `rdi` and of `x0` in `struct pt_regs` (uapi/asm/ptrace.h of each machine)."""
LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}
MAX_GLIBC = (2, 17)


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def extract(machine: str, name: str, folder: Path) -> Path:
    """Extract one file of a wheel."""
    with ZipFile(built_wheel(machine)) as archive:
        return Path(archive.extract(f"{BPF}/{name}", folder))


def readelf(path: Path, *options: str) -> str:
    require_programs("readelf")
    done = run_command(["readelf", "--wide", *options, path])
    assert done.code == 0, done
    return done.out


def test_a_wheel_has_the_package_and_nothing_else(machine: str) -> None:
    """The package with its two binaries, and the licences; no tests, tools or leftovers."""
    with ZipFile(built_wheel(machine)) as archive:
        names = archive.namelist()
    assert len(names) == len({*names})
    prefix = f"{INFO}/licenses/"
    assert {name.removeprefix(prefix) for name in names if name.startswith(prefix)} == LICENSES
    modules = {str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("otel_oom/**/*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    source = (REPOSITORY / "bpf/bcc/oom.bcc.c").read_text(encoding="utf-8")
    sources = {"bcc/oom.bcc.c", *re.findall(r'#include "(.+)"', source)}
    assert {f"otel_oom/capture/bcc/bpf_source/{path}" for path in sources} <= {*names}
    assert f"{INFO}/entry_points.txt" in names
    assert {name.partition("/")[0] for name in names} == {"otel_oom", INFO}
    binaries = {name for name in names if name.startswith(BPF) and name[-2:] in {".o", ".1"}}
    assert binaries == {f"{BPF}/oom.bpf.o", f"{BPF}/libbpf.so.1"}
    endings = {Path(name).suffix for name in names if name.startswith("otel_oom/")}
    data = {".css", ".service", ".txt", ".typed", ".yaml"}
    assert endings == {".py", ".o", ".1", ".c", ".h", *data}


def test_auditwheel_accepts_the_platform(machine: str) -> None:
    assert built_wheel(machine).stem.split("-")[2:] == ["py3", "none", f"manylinux_2_17_{machine}"]
    done = run_command([Path(sys.executable).with_name("auditwheel"), "show", built_wheel(machine)])
    assert done.code == 0, done
    shown = " ".join(done.out.split())
    assert f'consistent with the following platform tag: "manylinux_2_17_{machine}"' in shown


def test_the_library_needs_an_old_glibc_alone(machine: str, tmp_path: Path) -> None:
    """libelf and zlib are inside; it exports what the binding calls, and nothing of theirs."""
    library = extract(machine, "libbpf.so.1", tmp_path)
    needed = {*re.findall(r"\(NEEDED\).*\[(.+)\]", readelf(library, "--dynamic"))}
    assert needed <= {"libc.so.6", LOADERS[machine]}
    versions = re.findall(r"GLIBC_(\d+)\.(\d+)", readelf(library, "--version-info"))
    assert max((int(major), int(minor)) for major, minor in versions) <= MAX_GLIBC
    symbols = readelf(library, "--dyn-syms")
    exported = re.findall(r"(?m) GLOBAL +DEFAULT +\d+ (\w+)$", symbols)
    listed = (REPOSITORY / "native/libbpf.map").read_text(encoding="utf-8")
    assert sorted(exported) == re.findall(r"(?m)^    (\w+);$", listed)


def test_each_file_is_of_the_machine(machine: str, tmp_path: Path) -> None:
    """A BPF object does not say so, but its kprobes read the registers of one."""
    header = readelf(extract(machine, "libbpf.so.1", tmp_path), "--file-header")
    names = {"x86_64": "Advanced Micro Devices X86-64", "aarch64": "AArch64"}
    assert re.search(rf"Machine: +{names[machine]}", header)
    require_programs("llvm-objdump")
    bpf_object = extract(machine, "oom.bpf.o", tmp_path)
    section = "--section=kprobe/out_of_memory"
    done = run_command(["llvm-objdump", "--disassemble", "--no-show-raw-insn", section, bpf_object])
    loaded = re.search(r"= \*\(u64 \*\)\(r1 \+ (\d+)\)", done.out)
    assert loaded, done
    assert int(loaded[1]) == FIRST_ARGUMENT[machine]


def test_two_builds_are_equal(tmp_path: Path) -> None:
    """From another folder."""
    source = copy_sources(tmp_path / "a folder", *CONTENTS)
    build_distributions(source, tmp_path / "dist")
    first = {path.name: path.read_bytes() for path in built_sdist().parent.iterdir()}
    second = {path.name: path.read_bytes() for path in (tmp_path / "dist").iterdir()}
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_the_sdist_has_the_sources_of_the_library(tmp_path: Path) -> None:
    """With the licences, of the versions in the notice: all that its own licences ask for."""
    with tarfile.open(built_sdist()) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    assert {name for name in LICENSES if (root / name).is_file()} == LICENSES
    compiled = subprocess.check_output(
        ["make", "--dry-run", "-C", root / "native", f"PYTHON={sys.executable}"], text=True
    )
    sources = {*re.findall(r" -c (\S+\.c) ", compiled)}
    assert len(sources) > 100
    assert [name for name in sources if not (root / "native" / name).is_file()] == []
    notice = (root / "native/NOTICE").read_text(encoding="utf-8")
    versions = {
        "libbpf": ("libbpf/src/libbpf_version.h", r"LIBBPF_(?:MAJOR|MINOR)_VERSION (\d+)"),
        "zlib": ("zlib/zlib.h", r'ZLIB_VERSION "([\d.]+)"'),
    }
    for name, (header, pattern) in versions.items():
        text = (root / "native/vendor" / header).read_text(encoding="latin-1")
        assert f"{name} {'.'.join(re.findall(pattern, text))}" in notice
