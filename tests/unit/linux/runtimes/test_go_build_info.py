"""Go's build information in an ELF file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from otel_oom.linux.runtimes.go_build_info import read_go_version
from tests.testlib.hostile_elf import many_notes, many_symbols
from tests.testlib.require import require

HEADER = b"\xff Go buildinf:"
PLACE = b"0123456789" * 5


def read_version(path: Path) -> str | None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_go_version(fd)
    finally:
        os.close(fd)


@pytest.fixture(scope="module", params=["sha1", "none"])
def linked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a file with the section, with and without the build id of GNU ld."""
    require(shutil.which("clang"), "clang is needed")
    target = tmp_path_factory.mktemp("linked") / "program"
    section = '__attribute__((section(".go.buildinfo"), used, aligned(16)))'
    code = f'{section} char info[] = "{PLACE.decode()}";'
    command = ["clang", "-shared", "-nostdlib", "-x", "c", "-", f"-Wl,--build-id={request.param}"]
    subprocess.run([*command, "-o", target], input=code.encode(), check=True)
    return target.read_bytes()


@pytest.mark.parametrize(
    ("info", "version"),
    [
        # debug/buildinfo: magic, size of a pointer, flags (2: strings follow as varint and text).
        pytest.param(HEADER + b"\x08\x02" + bytes(16) + b"\x08go1.26.8", "go1.26.8", id="go1.26"),
        pytest.param(HEADER + b"\x08\x00" + bytes(16), "", id="pointers of Go 1.17"),
        pytest.param(HEADER + b"\x08\x02" + bytes(16) + b"\x7fgo1.26.8", "", id="cut off"),
        pytest.param(HEADER + b"\x08\x02" + bytes(16) + b"\x08go\n.26.8", "", id="control"),
        pytest.param(HEADER + b"\x08\x02" + bytes(16) + b"\x08hunter26", "", id="other text"),
        pytest.param(b"something else", None, id="of another linker"),
    ],
)
def test_a_linked_file(tmp_path: Path, linked: bytes, info: bytes, version: str | None) -> None:
    assert linked.count(PLACE) == 1
    path = tmp_path / "program"
    path.write_bytes(linked.replace(PLACE, info.ljust(len(PLACE), b"\0")))
    assert read_version(path) == version


@pytest.mark.parametrize("content", [b"", b"\x7fELF\x02\x01", many_notes(), many_symbols(64)])
def test_hostile_files_are_no_go(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "program").write_bytes(content)
    assert read_version(tmp_path / "program") is None
