"""The file that set a unit's limit, in systemd's own order of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_oom.linux.systemd.unit_files import find_memory_setting

MIB = 1 << 20
LIB, ETC, RUN = "usr/lib/systemd/system", "etc/systemd/system", "run/systemd/system"
SET = "etc/systemd/system.control"
TRANSIENT = "run/systemd/transient"


def write_files(root: Path, files: dict[str, str]) -> None:
    """Write files with one line each in a section."""
    for name, line in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[Service]\nExecStart=/bin/true\n{line}\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("unit", "files", "file"),
    [
        ("web.service", {f"{LIB}/web.service": "MemoryMax=64M"}, f"{LIB}/web.service"),
        (
            "web.service",
            {f"{LIB}/web.service": "MemoryMax=32M", f"{ETC}/web.service": "MemoryMax=64M"},
            f"{ETC}/web.service",
        ),
        (
            "web.service",
            {f"{ETC}/web.service": "MemoryMax=1G", f"{LIB}/web.service.d/a.conf": "MemoryMax=64M"},
            f"{LIB}/web.service.d/a.conf",
        ),
        # Of one name the folder decides, of others the name.
        (
            "web.service",
            {
                f"{LIB}/web.service.d/10.conf": "MemoryMax=1G",
                f"{ETC}/web.service.d/10.conf": "MemoryMax=64M",
            },
            f"{ETC}/web.service.d/10.conf",
        ),
        (
            "web.service",
            {
                f"{LIB}/web.service.d/20.conf": "MemoryMax=64M",
                f"{ETC}/web.service.d/10.conf": "MemoryMax=1G",
            },
            f"{LIB}/web.service.d/20.conf",
        ),
        # As `systemctl set-property` and `systemd-run -p` write it.
        (
            "web.service",
            {
                f"{LIB}/web.service": "MemoryMax=1G",
                f"{SET}/web.service.d/50-MemoryMax.conf": "MemoryMax=67108864",
            },
            f"{SET}/web.service.d/50-MemoryMax.conf",
        ),
        (
            "run-r12.scope",
            {f"{TRANSIENT}/run-r12.scope.d/50-MemoryMax.conf": "MemoryMax=67108864"},
            f"{TRANSIENT}/run-r12.scope.d/50-MemoryMax.conf",
        ),
        ("web@a.service", {f"{LIB}/web@.service": "MemoryMax=64M"}, f"{LIB}/web@.service"),
        (
            "user-1000.slice",
            {f"{ETC}/user-.slice.d/50-memory.conf": "MemoryMax=64M"},
            f"{ETC}/user-.slice.d/50-memory.conf",
        ),
        ("a.service", {f"{ETC}/service.d/all.conf": "MemoryMax=64M"}, f"{ETC}/service.d/all.conf"),
        ("a.service", {f"{ETC}/a.service": "MemoryLimit=64M"}, f"{ETC}/a.service"),
        (
            "a.service",
            {f"{LIB}/a.service": "MemoryMax=64M", f"{ETC}/a.service.d/x.conf": "MemoryLimit=1G"},
            f"{LIB}/a.service",
        ),
        # No file accounts for the limit.
        ("web.service", {f"{LIB}/web.service": "MemoryMax=65M"}, None),
        ("web.service", {f"{LIB}/web.service": "#MemoryMax=64M"}, None),
        ("web.service", {f"{LIB}/web.service": "MemoryMax="}, None),
        ("web.service", {f"{LIB}/web.service": "MemoryMax=infinity"}, None),
        ("web.service", {f"{LIB}/other.service": "MemoryMax=64M"}, None),
        ("web.service", {f"{LIB}/web.service.d/a.txt": "MemoryMax=64M"}, None),
        ("web.service", {}, None),
    ],
)
def test_the_effective_file_is_found(
    tmp_path: Path, unit: str, files: dict[str, str], file: str | None
) -> None:
    """In the order of `systemctl cat`; none if the limit has another value."""
    write_files(tmp_path, files)
    found = find_memory_setting(unit, 64 * MIB, tmp_path)
    assert (found.file if found else None) == (Path("/", file) if file else None)
    if found and file:
        assert found.line in files[file]


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ("64M", 64 * MIB),
        ("64MB", 64 * MIB),
        ("1.5G", 1536 * MIB),
        ("67108864", 64 * MIB),
        # The kernel rounds down to whole pages.
        ("67108865", 64 * MIB),
        ("10%", os.sysconf("SC_PHYS_PAGES") // 10 * os.sysconf("SC_PAGE_SIZE")),
    ],
)
def test_sizes_are_parsed_like_systemd(tmp_path: Path, value: str, limit: int) -> None:
    """With a suffix to the base of 1024, or in percent of the host's memory."""
    write_files(tmp_path, {f"{LIB}/a.service": f"MemoryMax = {value} "})
    found = find_memory_setting("a.service", limit, tmp_path)
    assert found is not None
    assert found.line == f"MemoryMax={value}"
