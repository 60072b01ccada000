"""The file that gave a systemd unit the memory limit that was hit.

systemd.unit(5): a unit is one file and its drop-ins. A file in an earlier directory hides a file of
the same name in a later one, and the last setting counts. systemd itself is not queried: it may be
the process that is out of memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.linux import procfs

_FOLDERS: Final = (
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "etc/systemd/system",
    "etc/systemd/system.attached",
    "run/systemd/system",
    "run/systemd/system.attached",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
)
_READ_BYTES: Final = 65536
_MAX_FILES: Final = 64
_TEMPLATE: Final = re.compile(r"(?P<prefix>[^@]+)@[^@]+(?P<type>\.\w+)")

_LINE: Final = re.compile(
    r"(?m)^[ \t]*(?P<key>MemoryMax|MemoryLimit)[ \t]*=[ \t]*(?P<value>.*?)\s*$"
)
_SIZE: Final = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,6})?)[ \t]*(?P<unit>[KMGTPE%]?)B?")
_UNITS: Final = " KMGTPE"
_PERCENT_ERROR: Final = 1e-3
"""Largest difference of the kernel's value to a percentage, which systemd rounds its own way."""


class UnitSetting(Struct, frozen=True):
    """A line of a unit's file as written, and that file."""

    line: str
    file: Path


def find_memory_setting(unit: str, limit: int, root: Path = Path("/")) -> UnitSetting | None:
    """Return the line that set ``limit``, in bytes, on ``unit``; ``None`` if no file did.

    The limit may have other origins, and a file may not be loaded yet: so a line with another
    value does not count.
    """
    last = None
    for path in _unit_files(unit, root):
        text = procfs.read_text(path, _READ_BYTES) or ""
        for line in _LINE.finditer(text):
            # MemoryLimit= is the older name, which MemoryMax= overrides.
            if line["key"] == "MemoryMax" or not last or last[0] == "MemoryLimit":
                last = (line["key"], line["value"], path)
    if last is None or not _equals_limit(last[1], limit):
        return None
    return UnitSetting(f"{last[0]}={last[1]}", Path("/", last[2].relative_to(root)))


def _unit_files(unit: str, root: Path) -> Iterator[Path]:
    """Return the unit's own file, then its drop-ins in the order in which systemd reads them."""
    folders = [root / folder for folder in _FOLDERS]
    names = [unit]
    template = _TEMPLATE.fullmatch(unit)
    if template:
        names.append(f"{template['prefix']}@{template['type']}")
    own = (folder / name for name in names for folder in folders)
    yield from list(filter(Path.is_file, own))[:1]
    drop_ins: dict[str, Path] = {}
    for name in (*names, *_prefixes(unit)):
        for folder in folders:
            try:
                files = sorted((folder / f"{name}.d").iterdir())[:_MAX_FILES]
            except OSError:
                continue
            for file in files:
                if file.suffix == ".conf":
                    drop_ins.setdefault(file.name, file)
    yield from [drop_ins[file_name] for file_name in sorted(drop_ins)[:_MAX_FILES]]


def _prefixes(unit: str) -> Iterator[str]:
    """Return names of shared drop-ins: ``foo-.service`` and ``service`` for ``foo-bar.service``."""
    stem, _, kind = unit.rpartition(".")
    words = stem.partition("@")[0].split("-")
    for count in range(len(words) - 1, 0, -1):
        yield f"{'-'.join(words[:count])}-.{kind}"
    yield kind


def _equals_limit(value: str, limit: int) -> bool:
    """Return whether the kernel's ``limit`` is what systemd makes of ``value``."""
    size = _SIZE.fullmatch(value)
    if size is None:
        return False
    number, page = float(size["number"]), os.sysconf("SC_PAGE_SIZE")
    if size["unit"] == "%":
        bytes_ = number / 100 * os.sysconf("SC_PHYS_PAGES") * page
        return abs(limit - bytes_) <= _PERCENT_ERROR * bytes_
    bytes_ = number * 1024 ** _UNITS.index(size["unit"] or " ")
    return int(bytes_) // page * page == limit // page * page
