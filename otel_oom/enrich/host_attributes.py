"""The host as resource attributes: constant while the agent runs, so read once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# Values of host.arch (semantic conventions) by the machine of uname(2).
_ARCH: Final = {
    "x86_64": "amd64",
    "i386": "x86",
    "i686": "x86",
    "aarch64": "arm64",
    "armv7l": "arm32",
    "ppc64le": "ppc64",
    "ppc64": "ppc64",
    "s390x": "s390x",
}

_MAX_FILE_CHARS: Final = 16384


def host_attributes(root: Path = Path("/")) -> dict[str, str]:
    """Return ``host.*`` and ``os.*`` of this host; unreadable ones are omitted."""
    uname = os.uname()
    release = _os_release(root)
    machine_id = _read(root / "etc/machine-id").strip()
    attributes = {
        "host.name": uname.nodename,
        "host.id": machine_id,
        "host.arch": _ARCH.get(uname.machine, uname.machine),
        "os.type": "linux",
        "os.name": release.get("NAME", ""),
        "os.version": release.get("VERSION_ID", ""),
        "os.description": f"{release.get('PRETTY_NAME', 'Linux')}, kernel {uname.release}",
    }
    return {name: value for name, value in attributes.items() if value}


def _os_release(root: Path) -> dict[str, str]:
    """Return the fields of os-release(5), from the first of its two paths that exists."""
    text = _read(root / "etc/os-release") or _read(root / "usr/lib/os-release")
    fields = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip().strip("\"'") for name, _, value in fields}


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_FILE_CHARS)
    except OSError:
        return ""
