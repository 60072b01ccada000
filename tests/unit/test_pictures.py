"""The pictures of HTML pages in docs/: there, small, shown, and of today's style sheet."""

from __future__ import annotations

import json
import re
import struct
from typing import Final

import pytest

from tests.testlib.browser.plugin import INDEX, PICTURES, digest_style_sheet
from tests.testlib.repository import REPOSITORY

_KINDS: Final = {
    "container": {"Victim", "Limit", "Top memory consumers", "Timeline", "Advice"},
    "group": {"Killed together (memory.oom.group): 3", "Limit", "Timeline"},
    "host": {"Victim", "Limit", "Allocation", "Kernel settings"},
    "swap": {"Victim", "Limit", "Allocation"},
    "panic": {"Kernel panic: out of memory", "Timeline"},
    "report": {"Kills by hour (UTC)", "By service", "By limit", "Repeats", "Events"},
}
"""Each kind of page, with headings that it has."""
_MAX_BYTES: Final = 150_000


@pytest.mark.parametrize("name", _KINDS)
def test_picture_is_of_its_kind_and_not_stale(name: str) -> None:
    facts = json.loads(INDEX.read_text("utf-8"))[name]
    assert _KINDS[name] <= {*facts["headings"]}
    assert facts["style"] == digest_style_sheet(), "run make pictures"


@pytest.mark.parametrize("name", _KINDS)
def test_picture_is_a_small_image_of_a_page(name: str) -> None:
    data = (PICTURES / f"{name}.webp").read_bytes()
    assert len(data) < _MAX_BYTES
    width, height = _size(data)
    assert width == 840
    assert height > 400


def _size(data: bytes) -> tuple[int, int]:
    """Return width and height, which a file with further chunks has in the first one (RFC 9649)."""
    assert (data[:4], data[8:12]) == (b"RIFF", b"WEBP")
    if data[12:16] == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    else:
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", data, 26))
    return width, height


def test_every_picture_is_shown() -> None:
    page = (REPOSITORY / "docs/pages.md").read_text("utf-8")
    shown = set(re.findall(r"!\[[^]]+\]\(pictures/(\w+)\.webp\)", page))
    assert shown == _KINDS.keys() == {path.stem for path in PICTURES.glob("*.webp")}
