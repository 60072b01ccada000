"""The base of the agent's image, made of Debian's packages: no registry of images is needed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.testlib.debian.roots import debian_archive
from tests.testlib.repository import REPOSITORY

CONTAINERFILE: Final = REPOSITORY / "deploy/container/Containerfile"
REQUIREMENTS: Final = REPOSITORY / "requirements.txt"

_SUITE: Final = "trixie"
_PACKAGES: Final = ("ca-certificates", "python3", "python3-pip", "python3-venv")
PYTHON_VERSION: Final = "3.13"
"""Of the suite, and of the base that it stands for."""
_DOWNLOAD_S: Final = 900.0


def read_base_name() -> str:
    """Return the name of the base in the Containerfile."""
    content = CONTAINERFILE.read_text(encoding="utf-8")
    (name,) = re.findall(r"(?m)^ARG PYTHON=(\S+)$", content)
    return str(name)


def built_base() -> Path:
    """Return the root directory of the base as a tar archive, which the first call makes."""
    return debian_archive(_SUITE, *_PACKAGES)


def download_requirements(folder: Path, machine: str) -> None:
    """Download the wheels of requirements.txt for the base's Python, checked by their hashes."""
    glibc = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
    platforms = (f"--platform={each}_{machine}" for each in glibc)
    pip = (sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--require-hashes")
    words = ("--only-binary=:all:", f"--python-version={PYTHON_VERSION}", f"--dest={folder}")
    subprocess.run([*pip, *words, *platforms, "-r", REQUIREMENTS], check=True, timeout=_DOWNLOAD_S)


def copy_build_context(folder: Path, wheel: Path) -> None:
    """Copy the files that the Containerfile uses, as they lie after `make dist`."""
    (folder / "dist").mkdir(parents=True)
    shutil.copy(wheel, folder / "dist")
    shutil.copy(REQUIREMENTS, folder)
