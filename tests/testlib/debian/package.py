"""The Debian package of this tree, built once for each state of its files."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from scripts.build_deb import build_deb
from tests.testlib.distribution import EPOCH, built_wheel, source_files
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require
from tests.testlib.servers.build import cache_folder, lock_file

_CONTENTS: Final = (
    *("deploy/debian", "docs/configuration.md", "requirements.txt", "requirements-dev.txt"),
    *("scripts/build_deb.py", "scripts/command_line.py", "scripts/generate_man.py"),
)
_MAX_KEPT: Final = 4


def built_deb() -> Path:
    """Return the package for this architecture; the first call takes a minute or more."""
    require(shutil.which("dh"), "building the package needs debhelper")
    wheel = built_wheel()
    digest = hashlib.sha256(wheel.read_bytes())
    for name in source_files(*_CONTENTS):
        digest.update((REPOSITORY / name).read_bytes())
    folder = cache_folder() / "debian-packages" / digest.hexdigest()[:16]
    with lock_file(folder.parent / "lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as new:
                build_deb(wheel, "amd64", Path(new, "built"), EPOCH)
                Path(new, "built").rename(folder)
            _remove_oldest(folder.parent)
    (path,) = folder.glob("*.deb")
    return path


def repack_deb(package: Path, revision: str, into: Path) -> Path:
    """Return the same package with another revision, compressed little."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "package")
        subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
        control = folder / "DEBIAN/control"
        text = control.read_text(encoding="utf-8")
        text = re.sub(r"(?m)^(Version: .*)-[^-\n]*$", rf"\1-{revision}", text)
        control.write_text(text, encoding="utf-8")
        into.mkdir(parents=True, exist_ok=True)
        words = ("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", folder, into)
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    (path,) = into.glob(f"*-{revision}_*.deb")
    return path


def _remove_oldest(parent: Path) -> None:
    folders = sorted(parent.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime)
    for folder in folders[:-_MAX_KEPT]:
        shutil.rmtree(folder)
