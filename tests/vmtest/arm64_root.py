"""Debian's Python for arm64 and the programs of the scenarios, packed for an initramfs, once."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.build import cache_folder, lock_file
from tests.testlib.servers.recipes import BuildError
from tests.vmtest.archive import Archive

_SUITE: Final = "bookworm"
PYTHON_VERSION: Final = "3.11"
"""The version of Python in that suite."""

_PACKAGES: Final = (
    *(f"python{PYTHON_VERSION}", "bash", "coreutils", "util-linux", "mount", "kmod", "iproute2"),
    "bpftool",  # which names the programs that a process has loaded
)

_UNNEEDED: Final = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/i18n", "usr/share/info"),
    *("usr/lib/aarch64-linux-gnu/gconv", "usr/lib/aarch64-linux-gnu/perl-base"),
    *(f"usr/lib/python{PYTHON_VERSION}/{name}" for name in ("test", "idlelib", "lib2to3")),
)


def fetch_root() -> Path:
    """Return the packed files, from the cache if possible.

    Raises:
        BuildError: they are not in the cache, and the archive does not respond.
    """
    folder = cache_folder() / "arm64-root"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{_SUITE}.cpio"
    with lock_file(folder / "lock"):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as new:
                root, packed = Path(new, "root"), Path(new, "packed")
                Archive(_SUITE, Path(new, "apt"), "arm64").unpack_closure([*_PACKAGES], root)
                for name in _UNNEEDED:
                    shutil.rmtree(root / name, ignore_errors=True)
                for name in ("proc", "sys", "dev", "run", "tmp"):
                    (root / name).mkdir(exist_ok=True)
                (root / "bin/sh").unlink(missing_ok=True)
                (root / "bin/sh").symlink_to("bash")
                compile_modules(root / f"usr/lib/python{PYTHON_VERSION}")
                pack_files(root, packed)
                packed.rename(target)
    return target


def fetch_msgspec() -> Path:
    """Return a folder with the one dependency that capture needs, from the cache if possible.

    Raises:
        BuildError: it is not in the cache, and pip cannot download the locked version.
    """
    locked = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    match = re.search(r"(?m)^(msgspec==\S+) (?:\\\n +--hash=\S+ ?)+", locked)
    assert match
    folder = cache_folder() / "arm64-root"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / match[1]
    with lock_file(folder / "lock"), tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as new:
        if not target.exists():
            requirements, site = Path(new, "requirements.txt"), Path(new, "site")
            requirements.write_text(match[0], encoding="utf-8")
            _run_pip("install", "--target", site, "--require-hashes", "-r", requirements)
            compile_modules(site)
            site.rename(target)
    return target


def _run_pip(*arguments: str | Path) -> None:
    platforms = (f"--platform=manylinux_2_{version}_aarch64" for version in (17, 28))
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    foreign = ("--no-deps", "--only-binary=:all:", f"--python-version={PYTHON_VERSION}")
    done = subprocess.run(
        [*pip, *arguments, *foreign, *platforms], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"pip failed:\n{done.stderr.strip()}")


def compile_modules(folder: Path) -> None:
    """Compile Python's modules below ``folder``, if our interpreter is of the guest's version.

    A guest is slow at that.
    """
    if f"{sys.version_info.major}.{sys.version_info.minor}" == PYTHON_VERSION:
        subprocess.run([sys.executable, "-m", "compileall", "-q", folder], check=False)


def pack_files(folder: Path, packed: Path) -> None:
    """Pack all files of ``folder`` for the kernel (buffer-format.rst of its documentation).

    Raises:
        BuildError: busybox cannot be run, or fails.
    """
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    with packed.open("wb") as output:
        done = subprocess.run(
            ["busybox", "cpio", "--quiet", "-o", "-H", "newc"],
            cwd=folder,
            input="\n".join(names).encode(),
            stdout=output,
            stderr=subprocess.PIPE,
            check=False,
        )
    if done.returncode:
        raise BuildError(f"busybox cpio failed:\n{done.stderr.decode().strip()}")
