"""Which file gave a systemd unit the memory limit that was hit.

systemd.unit(5): a unit is one file and its drop-ins, from folders of which an earlier one goes
before a later one; what stands last among them holds. systemd itself is not asked: it may be the
one that has no memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
_MOST_FILES: Final = 64
_TEMPLATE: Final = re.compile(r"(?P<prefix>[^@]+)@[^@]+(?P<type>\.\w+)")

_LINE: Final = re.compile(
    r"(?m)^[ \t]*(?P<key>MemoryMax|MemoryLimit)[ \t]*=[ \t]*(?P<value>.*?)\s*$"
)
_SIZE: Final = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,6})?)[ \t]*(?P<unit>[KMGTPE%]?)B?")
_UNITS: Final = " KMGTPE"
_PERCENT_OFF: Final = 1e-3
"""How far the kernel's value may be from a percentage, which systemd rounds in its own way."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A line of a unit's file, as it stands there, and that file."""

    line: str
    file: Path


def memory_setting(unit: str, limit: int, root: Path = Path("/")) -> Setting | None:
    """The line that set ``limit``, in bytes, on ``unit``; ``None`` where no file accounts for it.

    The limit may have been set by other means, or the file not been loaded yet: a line with another
    value is not told.
    """
    found = None
    for path in _files(unit, root):
        text = procfs.read_text(path, _READ_BYTES) or ""
        for line in _LINE.finditer(text):
            # MemoryLimit= is its older form, for which systemd takes MemoryMax= where it is set.
            if line["key"] == "MemoryMax" or not found or found[0] == "MemoryLimit":
                found = (line["key"], line["value"], path)
    if found is None or not _is(found[1], limit):
        return None
    return Setting(f"{found[0]}={found[1]}", Path("/", found[2].relative_to(root)))


def _files(unit: str, root: Path) -> Iterator[Path]:
    """The unit's own file, then its drop-ins in the order in which they hold."""
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
                found = sorted((folder / f"{name}.d").iterdir())[:_MOST_FILES]
            except OSError:
                continue
            for file in found:
                if file.suffix == ".conf":
                    drop_ins.setdefault(file.name, file)
    yield from [drop_ins[file_name] for file_name in sorted(drop_ins)[:_MOST_FILES]]


def _prefixes(unit: str) -> Iterator[str]:
    """``foo-bar.service`` is configured by ``foo-.service.d`` and ``service.d`` as well."""
    stem, _, kind = unit.rpartition(".")
    words = stem.partition("@")[0].split("-")
    for count in range(len(words) - 1, 0, -1):
        yield f"{'-'.join(words[:count])}-.{kind}"
    yield kind


def _is(value: str, limit: int) -> bool:
    """Whether the kernel's ``limit`` is what systemd makes of ``value``."""
    size = _SIZE.fullmatch(value)
    if size is None:
        return False
    number, page = float(size["number"]), os.sysconf("SC_PAGE_SIZE")
    if size["unit"] == "%":
        bytes_ = number / 100 * os.sysconf("SC_PHYS_PAGES") * page
        return abs(limit - bytes_) <= _PERCENT_OFF * bytes_
    bytes_ = number * 1024 ** _UNITS.index(size["unit"] or " ")
    return int(bytes_) // page * page == limit // page * page
