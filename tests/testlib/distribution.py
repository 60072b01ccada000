"""The distributions that `make dist` builds, built once for each state of the source files.

They are kept in the cache of the servers, where test processes and work trees share them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.testlib.command import run_command
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require
from tests.testlib.servers.build import cache_folder, lock_file

CONTENTS = (
    *("bpf", "native", "otel_oom", "hatch_build.py", "pyproject.toml"),
    *("CHANGELOG.md", "LICENSE", "Makefile", "README.md", "requirements.txt"),
    *("requirements-dist.txt", "scripts/build_distributions.py", "scripts/vendor_sources.py"),
)
"""All that the distributions depend on."""
NATIVE = ("native", "requirements-dist.txt", "scripts/vendor_sources.py")
"""All that their libbpf depends on."""
EPOCH = "1767225600"
"""Equal files are equal distributions, in whatever commit."""
BUILD_S = 1800.0
UNUSED_S = 2 * 24 * 3600.0


def built_wheel(machine: str = "x86_64") -> Path:
    """Return the manylinux wheel for the machine; the first call takes half a minute or more."""
    (path,) = _built_distributions().glob(f"otel_oom-*_{machine}.whl")
    return path


def built_sdist() -> Path:
    """Return the source distribution."""
    (path,) = _built_distributions().glob("otel_oom-*.tar.gz")
    return path


def downloaded_requirements(python: str) -> Path:
    """Return a folder with all that pip installs beside the x86-64 wheel, of the pinned versions.

    Args:
        python: version of the interpreter, such as `3.13`.
    """
    wheel = built_wheel()
    pins = re.findall(r"(?m)^\S+==\S+", (REPOSITORY / "requirements.txt").read_text("utf-8"))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    digest = hashlib.sha256(repr((pins, project["dependencies"])).encode()).hexdigest()[:8]
    folder = cache_folder() / f"requirements/{python}-{digest}"
    with lock_file(folder.with_suffix(f"{folder.suffix}.lock")):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as name:
                constraint = Path(name, "pins.txt")
                constraint.write_text("\n".join(pins), encoding="utf-8")
                _download(wheel, constraint, python, Path(name, "new"))
                Path(name, "new", wheel.name).unlink()
                Path(name, "new").rename(folder)
    return folder


def copy_sources(folder: Path, *contents: str) -> Path:
    """Copy the source files of the tree, without anything that was built."""
    for name in source_files(*contents):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


def source_files(*contents: str) -> Iterator[str]:
    """Yield the name of each file that is or could be committed."""
    require(shutil.which("git") and (REPOSITORY / ".git").exists(), "git names the source files")
    # Git does not trust the folder of another user (a mounted one, in CI) without this option.
    git = ("git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard", "--")
    listed = run_command([*git, *contents], cwd=REPOSITORY)
    assert listed.code == 0, listed
    for name in sorted(filter(None, listed.out.split("\0"))):
        if (REPOSITORY / name).is_file():
            yield name


def build_distributions(source: Path, into: Path, **environ: str) -> None:
    """Build all of them from a folder of sources, as `make dist` does."""
    require(importlib.util.find_spec("ziglang"), "the compiler of wheels: scripts/setup dist")
    for program in ("cargo", "clang", "llvm-strip", "make"):
        require(shutil.which(program), f"building distributions needs {program}")
    words = ("-m", "scripts.build_distributions", "--into", into)
    env = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, **environ}
    done = run_command([sys.executable, *words], env, cwd=source, limit_s=BUILD_S)
    assert done.code == 0, done


def _built_distributions() -> Path:
    folder = cache_folder() / "distributions" / _digest()
    with lock_file(folder.with_suffix(".lock")):
        if not folder.is_dir():
            remove_unused(folder.parent)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".build-") as name:
                source = copy_sources(Path(name, "source"), *CONTENTS)
                with _locked_native_build() as build:
                    into = Path(name, "dist")
                    build_distributions(source, into, OTEL_OOM_NATIVE_BUILD=str(build))
                into.rename(folder)
        os.utime(folder)
    return folder


def _download(wheel: Path, constraint: Path, python: str, into: Path) -> None:
    glibc = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
    target = (f"--python-version={python}", *(f"--platform={each}_x86_64" for each in glibc))
    pip = (sys.executable, "-m", "pip", "--quiet", "download", "--only-binary=:all:", *target)
    done = run_command([*pip, "-c", constraint, "-d", into, wheel], os.environ, limit_s=BUILD_S)
    require(done.code == 0, f"the dependencies could not be had: {done.err[-500:]}")


def _digest() -> str:
    """Return a name for the state of the sources and the compiler of bpf/."""
    return _digest_files(run_command(["clang", "--version"]).out, *CONTENTS)


def _digest_files(salt: str, *contents: str) -> str:
    digest = hashlib.sha256(salt.encode())
    for name in source_files(*contents):
        content = hashlib.sha256((REPOSITORY / name).read_bytes()).hexdigest()
        digest.update(f"{name}\0{content}\0".encode())
    return digest.hexdigest()[:16]


@contextmanager
def _locked_native_build() -> Iterator[Path]:
    """Yield the folder of the objects of libbpf, which hardly ever change."""
    folder = cache_folder() / "libbpf" / _digest_files("", *NATIVE)
    folder.mkdir(parents=True, exist_ok=True)
    with lock_file(folder.with_suffix(".lock")):
        yield folder


def remove_unused(parent: Path) -> None:
    """Remove what has not been used for days from a folder of the cache."""
    for path in parent.iterdir():
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - UNUSED_S:
                path.unlink() if path.is_file() else shutil.rmtree(path)
