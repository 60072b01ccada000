"""Debian's packages that start a service, unpacked and never installed.

Installed, they would begin to kill, to confine, or to listen on the machine itself.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Sequence
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
    return _fetch_packages("killers", DAEMONS)


def fetch_apparmor() -> Path:
    """Return the folder with AppArmor's parser and settings; likewise.

    Raises:
        BuildError: they are not in the cache, and the archive does not respond.
    """
    return _fetch_packages("apparmor", ("apparmor",))


def fetch_node_exporter() -> Path:
    """Return the program node_exporter; likewise.

    Raises:
        BuildError: it is not in the cache, and the archive does not respond.
    """
    # Installed, it would be a service that listens on *:9100.
    folder = _fetch_packages("node-exporter", ("prometheus-node-exporter",))
    return folder / "usr/bin/prometheus-node-exporter"


def fetch_bcc_oomkill() -> Path:
    """Return the folder with bcc's tools; likewise.

    Raises:
        BuildError: they are not in the cache, and the archive does not respond.
    """
    return _fetch_packages("bcc-tools", ("bpfcc-tools",))


def fetch_rsyslog() -> Path:
    """Return the folder with rsyslog and its libraries; likewise.

    Raises:
        BuildError: it is not in the cache, and the archive does not respond.
    """
    return _fetch_packages("rsyslog", ("rsyslog", "libestr0", "libfastjson4"))


def _fetch_packages(name: str, packages: Sequence[str]) -> Path:
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")
    folder = cache_folder() / name
    target = folder / suite
    if target.exists():  # in a guest, which may not write there
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with lock_file(folder / "lock"):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as new:
                whole = Path(new, "whole")
                whole.mkdir()
                Archive(suite, Path(new, "apt")).fetch([*packages], whole)
                for other in ("usr/share/doc", "usr/share/man"):
                    shutil.rmtree(whole / other, ignore_errors=True)
                whole.rename(target)
    return target
