"""Debian's packages of userspace OOM daemons, unpacked and never installed.

Installed, they would begin to kill on the machine itself.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from pathlib import Path
from typing import Final

from tests.testlib.servers.build import cache_folder, lock_file
from tests.vmtest.archive import Archive

DAEMONS: Final = ("systemd-oomd", "earlyoom", "oomd")


def fetch_daemons() -> Path:
    """Return the folder with their files, from the cache if possible.

    They are of the machine's own suite, whose systemd has the library that systemd-oomd needs.

    Raises:
        BuildError: they are not in the cache, and the archive does not respond.
    """
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")
    folder = cache_folder() / "killers"
    folder.mkdir(parents=True, exist_ok=True)
    with lock_file(folder / "lock"):
        target = folder / suite
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as new:
                whole = Path(new, "whole")
                whole.mkdir()
                Archive(suite, Path(new, "apt")).fetch([*DAEMONS], whole)
                for other in ("usr/share/doc", "usr/share/man"):
                    shutil.rmtree(whole / other, ignore_errors=True)
                whole.rename(target)
    return target
