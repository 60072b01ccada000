"""Folders that look like memory cgroups of cgroup v2."""

from __future__ import annotations

from pathlib import Path

from otel_oom.model.units import MIB


class FakeCgroups:
    """A hierarchy below a folder; usage and limits are in MiB."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make(self, path: str, usage_mib: int, limit_mib: int | None = None) -> None:
        """Make a cgroup, or change it."""
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        limit = "max" if limit_mib is None else str(limit_mib * MIB)
        (folder / "memory.max").write_text(f"{limit}\n")
        self.use(path, usage_mib)

    def use(self, path: str, usage_mib: int) -> None:
        """Set the usage of a cgroup."""
        (self.root / path / "memory.current").write_text(f"{usage_mib * MIB}\n")

    def cache(self, path: str, inactive_mib: int) -> None:
        """Set the inactive page cache of a cgroup, which its usage includes."""
        stat = f"anon 0\ninactive_file {inactive_mib * MIB}\n"
        (self.root / path / "memory.stat").write_text(stat)

    def remove(self, path: str) -> None:
        """Remove a cgroup."""
        for file in (self.root / path).iterdir():
            file.unlink()
        (self.root / path).rmdir()
