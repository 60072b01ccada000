"""A database of a real containerd 1.6, with 71 containers of one pod."""

from __future__ import annotations

import json
import lzma
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otel_oom.linux import bolt
from otel_oom.linux.bolt import BoltError, read_bolt_value

DATABASE = Path(__file__).parent / "data/containerd/meta.db.xz"
ID = "b4b74a3bb71f1ad655a342827037199ef5f1bee88d13acf2eec6932d9b685c05"
IMAGE = "localhost/otel-oom-test:1.2"
CONTAINER = (b"v1", b"k8s.io", b"containers", ID.encode())
PAGE = 4096

Open = Callable[[bytes], int]


@pytest.fixture(scope="module")
def content() -> bytes:
    return lzma.decompress(DATABASE.read_bytes())


@pytest.fixture
def open_database(tmp_path: Path) -> Iterator[Open]:
    opened = []

    def open_content(database: bytes) -> int:
        path = tmp_path / "meta.db"
        path.write_bytes(database)
        opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        return opened[-1]

    yield open_content
    for fd in opened:
        os.close(fd)


def test_values_are_those_that_the_runtime_reported(content: bytes, open_database: Open) -> None:
    """By ``crictl inspect`` of this containerd: buckets in pages, in values, and below branches."""
    fd = open_database(content)
    assert read_bolt_value(fd, *CONTAINER, b"image") == IMAGE.encode()
    assert read_bolt_value(fd, *CONTAINER, b"labels", b"io.kubernetes.pod.name") == b"shop-7d"
    extension = read_bolt_value(
        fd, *CONTAINER, b"extensions", b"io.cri-containerd.container.metadata"
    )
    assert extension is not None
    metadata = json.loads(extension[extension.index(b"{") :])["Metadata"]
    assert metadata["ID"] == ID
    assert metadata["ImageRef"] == (
        "sha256:1303582991910dc914125a1eb335287b2953a284f1e24fdfcf7e5717c5d4f280"
    )


def test_each_container_is_found(content: bytes, open_database: Open) -> None:
    """Among them the first key of a page, which its branch has as well."""
    ids = set(re.findall(rb"kubepods/burstable/pod[0-9a-f-]{36}/([0-9a-f]{64})", content))
    fd = open_database(content)
    images = [read_bolt_value(fd, *CONTAINER[:3], id_, b"image") for id_ in ids]
    assert len(images) == 72, "with the sandbox"
    assert set(images) == {IMAGE.encode(), b"localhost/otel-oom-pause:1"}


@pytest.mark.parametrize(
    "keys",
    [
        (b"v1", b"k8s.io", b"containers", b"0" * 64, b"image"),
        (b"v1", b"k8s.io", b"containers", b"f" * 64, b"image"),
        (*CONTAINER, b"imag"),
        (*CONTAINER, b"image", b"labels"),
        CONTAINER,
        (b"v2",),
        (),
    ],
)
def test_there_is_no_value_elsewhere(
    keys: tuple[bytes, ...], content: bytes, open_database: Open
) -> None:
    """Neither of a missing key, nor of a bucket, nor below a value."""
    assert read_bolt_value(open_database(content), *keys) is None


def test_the_older_transaction_counts_after_a_crash(content: bytes, open_database: Open) -> None:
    """bbolt writes its two meta pages in turn; a half written one has a wrong checksum."""
    values = []
    for number in (0, 1):
        torn = bytearray(content)
        torn[number * PAGE + 40] ^= 1
        values.append(read_bolt_value(open_database(bytes(torn)), *CONTAINER, b"image"))
    assert values == [IMAGE.encode()] * 2
    torn[40] ^= 1
    with pytest.raises(BoltError, match="no meta page"):
        read_bolt_value(open_database(bytes(torn)), *CONTAINER, b"image")


def test_a_value_of_a_page_that_changes_meanwhile_does_not_count(
    content: bytes, open_database: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of an old transaction can have other data by the second next one."""
    fd, read_meta, numbers = open_database(content), bolt._read_meta, iter(range(100))  # noqa: SLF001  what its owner changes
    monkeypatch.setattr(
        bolt,
        "_read_meta",
        lambda fd: bolt._Meta(PAGE, read_meta(fd).root, next(numbers) // 3),  # noqa: SLF001
    )
    # The first try sees one transaction, the second two.
    assert read_bolt_value(fd, *CONTAINER, b"image") == IMAGE.encode()
    monkeypatch.setattr(
        bolt,
        "_read_meta",
        lambda fd: bolt._Meta(PAGE, read_meta(fd).root, next(numbers)),  # noqa: SLF001
    )
    with pytest.raises(BoltError, match="changes all the time"):
        read_bolt_value(fd, *CONTAINER, b"image")


def test_a_damaged_database_has_no_endless_read(content: bytes, open_database: Open) -> None:
    """Whatever its pages refer to."""
    random_ = random.Random(13)  # noqa: S311  the same damage in each run
    for _ in range(20):
        damaged = bytearray(content)
        for _ in range(2000):
            damaged[random_.randrange(2 * PAGE, len(content))] = random_.randrange(256)
        fd = open_database(bytes(damaged))
        try:
            value = read_bolt_value(fd, *CONTAINER, b"image")
        except BoltError:
            continue
        assert value is None or len(value) <= 1 << 20


def test_a_tree_that_leads_to_itself_ends(content: bytes, open_database: Open) -> None:
    looping = bytearray(content)
    for number in range(2, len(content) // PAGE):
        at = number * PAGE
        looping[at : at + PAGE] = content[262 * PAGE : 263 * PAGE]
    with pytest.raises(BoltError):
        read_bolt_value(open_database(bytes(looping)), *CONTAINER, b"image")


def test_a_file_that_is_cut_off_is_an_error(content: bytes, open_database: Open) -> None:
    for size in (0, 16, PAGE, 2 * PAGE, 20 * PAGE):
        with pytest.raises(BoltError):
            read_bolt_value(open_database(content[:size]), *CONTAINER, b"image")
