"""A bpffs of a test's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testlib.require import require


@contextmanager
def mount_bpffs(folder: Path) -> Iterator[Path]:
    """Mount a bpffs at ``folder``; unmount it with all its pins at the end."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "bpf", "-o", "mode=700", "bpf", folder], check=False, capture_output=True
    )
    require(mounted.returncode == 0, f"bpffs can't be mounted: {mounted.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
