"""Roots of Debian's suites, each made once: a directory, an archive, or a disk for a guest."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.testlib.require import require_programs
from tests.testlib.servers.build import cache_folder, lock_file
from tests.testlib.servers.recipes import BuildError

_MMDEBSTRAP: Final = (
    *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
    # A mirror may be behind, and what it has is still signed.
    '--aptopt=Acquire::Check-Valid-Until "false"',
    '--aptopt=Apt::Install-Recommends "false"',
    # Files that take disk space alone.
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")),
)
_NEEDED_FILES: Final = {
    "nohang": "/usr/share/doc/nohang/*",
    # Links of alternatives are made beside manual pages.
    "openjdk-21-jre-headless": "/usr/share/man/man1/*",
}
"""Files of these that the package's own installation needs."""
_DISK_SIZE: Final = "3G"
"""The size of the sparse file."""
_LIMIT_S: Final = 1200.0


def debian_root(suite: str, *packages: str) -> Path:
    """Return a root directory with the packages. Nobody may change it.

    The first call for these packages makes it, in about a minute, of Debian's archive.

    Raises:
        BuildError: it is not in the cache and cannot be made; says why.
    """
    return _build_once(suite, packages, "", _bootstrap)


def debian_archive(suite: str, *packages: str) -> Path:
    """Return the same as a tar archive."""
    return _build_once(suite, packages, ".tar", _bootstrap)


def debian_disk(suite: str, *packages: str) -> Path:
    """Return the same as an image of an ext4 file system, which no guest may change."""
    return _build_once(suite, packages, ".ext4", _make_disk)


def _build_once(
    suite: str,
    packages: tuple[str, ...],
    suffix: str,
    build: Callable[[str, tuple[str, ...], Path], None],
) -> Path:
    packages = tuple(sorted(packages))
    depends_on = json.dumps([suite, packages, _MMDEBSTRAP, _DISK_SIZE, *_included(packages)])
    digest = hashlib.sha256(depends_on.encode()).hexdigest()[:8]
    path = cache_folder() / "roots" / f"{suite}-{digest}{suffix}"
    with lock_file(path.with_name(f"{path.name}.lock")):
        if not path.exists():
            require_programs("mmdebstrap", "mke2fs")
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
                new = Path(folder, f"root{suffix}")
                build(suite, packages, new)
                new.rename(path)
    return path


def _bootstrap(suite: str, packages: tuple[str, ...], target: Path) -> None:
    words = (*_MMDEBSTRAP, *_included(packages), f"--include={','.join(packages)}")
    _run(*words, suite, target)


def _included(packages: tuple[str, ...]) -> list[str]:
    needed = (_NEEDED_FILES[name] for name in packages if name in _NEEDED_FILES)
    return [f"--dpkgopt=path-include={files}" for files in needed]


def _make_disk(suite: str, packages: tuple[str, ...], target: Path) -> None:
    root = target.with_suffix("")
    _bootstrap(suite, packages, root)
    _run("truncate", "--size", _DISK_SIZE, target)
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-d", root, target)


def _run(*command: str | Path) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_LIMIT_S)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} took more than {_LIMIT_S:g} s") from error
    except subprocess.CalledProcessError as error:
        output = error.stderr.decode(errors="replace").strip()
        raise BuildError(f"{command[0]} failed:\n{output}") from error
