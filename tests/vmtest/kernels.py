"""Get the kernels that are tested, once.

    python -m tests.vmtest.kernels [name]

prints the path of each, all by default. Of each no more is kept than what a guest boots with.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.testlib.servers.build import cache_folder, lock_file
from tests.testlib.servers.recipes import BuildError
from tests.vmtest.archive import Archive

KERNELS: Final[dict[str, dict[str, Any]]] = tomllib.loads(
    Path(__file__).with_name("kernels.toml").read_text(encoding="utf-8")
)
"""The configuration of each kernel by its name."""

_FRESH_S: Final = 24 * 3600.0
"""The time for which the newest kernel of the cache is used before the archive is checked again."""

_MODULES: Final = (
    *("virtio_pci", "virtio_console", "9pnet_virtio", "9p"),  # the machine's files
    *("overlay", "unix"),  # files of the guest's own above them
    "brd",  # a disk in memory, to swap to
    *("virtio_blk", "ext4"),  # a disk of its own, whose power can be cut
)

_TOOLS: Final = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be booted; its modules are beside ``image`` where vng looks for them."""

    name: str
    release: str
    """As uname(1) prints it."""
    version: str
    """The version of Debian's package."""
    image: Path
    log_sums: bool
    """True if its log has exact sizes, where a counter lacks the part of each CPU."""
    arm64: bool = False
    """True if its machine is emulated for arm64, and for x86-64 otherwise."""


def fetch_kernel(name: str) -> Kernel:
    """Return the newest kernel of that name in `kernels.toml`, from the cache if possible.

    The first time takes about half a minute and a connection to Debian's archive; later times take
    milliseconds, and once a day seconds.

    Raises:
        KeyError: no such name.
        BuildError: it is not in the cache and cannot be fetched; says why.
    """
    wanted = KERNELS[name]
    folder = cache_folder() / "kernels" / name
    with lock_file(folder / "lock"):
        stamp = folder / "newest.json"
        if not _fresh(stamp, wanted):
            _renew(wanted, folder, stamp)
        newest = json.loads(stamp.read_text(encoding="utf-8"))
    release = newest["release"]
    image = _image(folder / release, release)
    return Kernel(
        name,
        release,
        newest["version"],
        image,
        wanted.get("log_sums", False),
        is_arm64(name),
    )


def is_arm64(name: str) -> bool:
    """Return True if the kernel of that name is for arm64."""
    return "arm64" in _flavour(KERNELS[name])


def _flavour(wanted: dict[str, Any]) -> str:
    return str(wanted.get("flavour", "amd64"))


def main() -> int:
    """Fetch the kernels named on the command line; return 1 if one cannot be fetched."""
    for name in sys.argv[1:] or KERNELS:
        try:
            print(fetch_kernel(name).image)  # noqa: T201  what it is called for
        except BuildError as error:
            print(error, file=sys.stderr)  # noqa: T201
            return 1
    return 0


def _fresh(stamp: Path, wanted: dict[str, Any]) -> bool:
    return _complete(stamp, wanted) and time.time() - stamp.stat().st_mtime < _FRESH_S


def _complete(stamp: Path, wanted: dict[str, Any]) -> bool:
    """Return True if the cache was made with all `_MODULES`, and the headers if wanted."""
    if not stamp.exists():
        return False
    stamp_content: dict[str, Any] = json.loads(stamp.read_text(encoding="utf-8"))
    headers = wanted.get("headers", False)
    return (
        stamp_content.get("modules") == list(_MODULES)
        and stamp_content.get("headers", False) == headers
    )


def _image(root: Path, release: str) -> Path:
    return root / "boot" / f"vmlinuz-{release}"


def _renew(wanted: dict[str, Any], folder: Path, stamp: Path) -> None:
    """Make ``folder`` have the newest kernel and no older one; write down which it is."""
    packages: list[str] = wanted["packages"]
    # Beside the targets, so that each rename is atomic.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as new:
        whole, small, noted = Path(new, "whole"), Path(new, "small"), Path(new, "newest")
        flavour = _flavour(wanted)
        archive = Archive(wanted["suite"], Path(new, "apt"), flavour.partition("-")[0])
        try:
            release, version = archive.find_newest(packages[0], wanted["series"], flavour)
        except BuildError as error:
            if not stamp.exists():
                raise
            print(f"{error}\nusing the kernel in the cache", file=sys.stderr)  # noqa: T201
            return
        target = folder / release
        headers = wanted.get("headers", False)
        if not (target.exists() and _complete(stamp, wanted)):
            whole.mkdir()
            archive.unpack([f"{package}-{release}" for package in packages], whole)
            _keep(whole, small, release)
            if headers:
                _keep_headers(archive, Path(new, "headers"), small, release)
            if target.exists():
                target.rename(Path(new, "older"))
            small.rename(target)
        stamp_content = {
            "release": release,
            "version": version,
            "modules": _MODULES,
            "headers": headers,
        }
        noted.write_text(json.dumps(stamp_content), encoding="utf-8")
        noted.rename(stamp)
    for older in folder.glob("[0-9]*"):
        if older.name != release:
            shutil.rmtree(older)


def _keep(whole: Path, small: Path, release: str) -> None:
    """Move the image, and the modules that boot needs with their dependencies, to ``small``."""
    modules = Path("usr/lib/modules", release)
    if not (whole / "usr/lib/modules").exists():
        (whole / "usr/lib").mkdir(parents=True, exist_ok=True)
        (whole / "lib/modules").rename(whole / "usr/lib/modules")
    shutil.rmtree(whole / "lib", ignore_errors=True)
    # kmod looks in one of the two; which, depends on how it was built.
    for root in (whole, small):
        (root / modules).mkdir(parents=True, exist_ok=True)
        (root / "lib").symlink_to("usr/lib")
    image = _image(small, release)
    image.parent.mkdir()
    (source,) = (*whole.glob("boot/vmlinuz-*"), *(whole / modules).glob("vmlinuz"))
    source.rename(image)

    _depmod(whole, release)
    for index in (whole / modules).glob("modules.[bo]*"):  # builtin and order
        shutil.copy(index, small / modules)
    for module in set(_needed(whole, release)):
        target = small / modules / module.resolve().relative_to((whole / modules).resolve())
        target.parent.mkdir(parents=True, exist_ok=True)
        module.rename(target)
    _depmod(small, release)


def _keep_headers(archive: Archive, whole: Path, small: Path, release: str) -> None:
    """Put the headers where the modules look for them, for one architecture."""
    whole.mkdir()
    own, shared = release, f"{release.removesuffix('-amd64')}-common"
    archive.unpack([f"linux-headers-{suffix}" for suffix in (own, shared)], whole)
    for link, name in (("build", own), ("source", shared)):
        source, target = (root / "usr/src" / f"linux-headers-{name}" for root in (whole, small))
        target.mkdir(parents=True)
        for folder in ("include", "arch/x86/include"):
            (source / folder).rename(_with_parent(target / folder))
        (small / "usr/lib/modules" / release / link).symlink_to(
            Path("../../../src", target.name)  # relative to its own folder
        )


def _with_parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _needed(root: Path, release: str) -> Iterator[Path]:
    """Yield the files of `_MODULES` and their dependencies; built-in ones have no file."""
    for name in _MODULES:
        done = subprocess.run(
            ["modprobe", "-C", "/dev/null", "-d", root, "-S", release, "--show-depends", name],
            env=_TOOLS,
            capture_output=True,
            text=True,
            check=False,
        )
        for line in done.stdout.splitlines():
            action, _, path = line.strip().partition(" ")
            if action == "insmod":
                yield Path(path)


def _depmod(root: Path, release: str) -> None:
    try:
        subprocess.run(
            ["depmod", "-b", root, release], env=_TOOLS, check=True, capture_output=True, text=True
        )
    except OSError as error:
        raise BuildError(f"depmod cannot be run: {error.strerror}. It is in kmod") from error
    except subprocess.CalledProcessError as error:
        raise BuildError(f"depmod failed:\n{error.stderr.strip()}") from error


if __name__ == "__main__":
    sys.exit(main())
