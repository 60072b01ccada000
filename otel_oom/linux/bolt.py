"""Read values of a bbolt database that its owner has open: containerd keeps its records in one.

bbolt never changes a page of its newest transaction (copy on write), so no lock is needed: a value
counts if that transaction is still the newest after the read. Source: ``go.etcd.io/bbolt``,
``internal/common/{page,meta,bucket}.go``.
"""

from __future__ import annotations

import os
import struct
from typing import Final

from msgspec import Struct

_PAGE: Final = struct.Struct("=QHHI")
"""``struct Page``: id, flags, number of elements, pages that follow."""
_META: Final = struct.Struct("=IIIIQQQQQ")
"""``struct Meta``: magic, version, page size, flags, root page, sequence, freelist, pages, id."""
_CHECKSUM: Final = struct.Struct("=Q")
_BRANCH: Final = struct.Struct("=IIQ")
"""``struct branchPageElement``: position of the key, its size, page."""
_LEAF: Final = struct.Struct("=IIII")
"""``struct leafPageElement``: flags, position of the key, sizes of key and value."""
_BUCKET: Final = struct.Struct("=QQ")
"""``struct InBucket``: root page, 0 for a page that follows; sequence."""

_MAGIC: Final = 0xED0CDAED
_VERSION: Final = 2
_BRANCH_PAGE: Final = 0x01
_LEAF_PAGE: Final = 0x02
_BUCKET_LEAF: Final = 0x01

_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
_U64: Final = (1 << 64) - 1

_PAGE_SIZES: Final = (4096, 8192, 16384, 32768, 65536)
_MAX_PAGE_BYTES: Final = 1 << 20
_MAX_PAGES: Final = 64
"""Pages of one read: a bucket's tree of depth 4 has some 10^8 keys."""
_MAX_TRIES: Final = 3


class BoltError(ValueError):
    """The file is not as bbolt writes it, or changed during each try."""


class _Meta(Struct, frozen=True):
    page_size: int
    root: int
    transaction: int


def read_bolt_value(fd: int, *keys: bytes) -> bytes | None:
    """Return the value under ``keys``, all but the last of which are buckets.

    ``None`` if there is none. Raises BoltError, or OSError.
    """
    for _ in range(_MAX_TRIES):
        before = _read_meta(fd)
        try:
            value = _Tree(fd, before.page_size).find(before.root, keys)
        except BoltError:
            # A page that a later transaction uses again.
            if _read_meta(fd) == before:
                raise
            continue
        if _read_meta(fd) == before:
            return value
    raise BoltError("it changes all the time")


def _read_meta(fd: int) -> _Meta:
    """Return the newer of the two meta pages; a crash can leave the other one half written."""
    metas = []
    for page_size in _PAGE_SIZES:
        for number in (0, 1):
            meta = _parse_meta(os.pread(fd, _PAGE.size + _META.size + 8, number * page_size))
            if meta and meta.page_size == page_size:
                metas.append(meta)
        if metas:
            return max(metas, key=lambda meta: meta.transaction)
    raise BoltError("no meta page")


def _parse_meta(content: bytes) -> _Meta | None:
    if len(content) < _PAGE.size + _META.size + _CHECKSUM.size:
        return None
    body = content[_PAGE.size : _PAGE.size + _META.size]
    magic, version, page_size, _, root, _, _, _, transaction = _META.unpack(body)
    (checksum,) = _CHECKSUM.unpack_from(content, _PAGE.size + _META.size)
    if (magic, version) != (_MAGIC, _VERSION) or checksum != _hash(body):
        return None
    return _Meta(page_size, root, transaction)


def _hash(content: bytes) -> int:
    """Return the FNV-1a hash of 64 bits."""
    value = _FNV_OFFSET
    for byte in content:
        value = (value ^ byte) * _FNV_PRIME & _U64
    return value


class _Tree:
    """The pages of one transaction."""

    def __init__(self, fd: int, page_size: int) -> None:
        self._fd = fd
        self._page_size = page_size
        self._pages_left = _MAX_PAGES

    def find(self, root: int, keys: tuple[bytes, ...]) -> bytes | None:
        """Return the value under ``keys``, beginning in the bucket with the page ``root``."""
        inline = b""
        for depth, key in enumerate(keys, 1):
            found = self._find_key(inline or self._read_page(root), key)
            is_bucket = found is not None and bool(found[0] & _BUCKET_LEAF)
            if found is None or is_bucket == (depth == len(keys)):
                return None
            value = found[1]
            if not is_bucket:
                return value
            root, _ = _unpack(_BUCKET, value, 0)
            inline = value[_BUCKET.size :] if not root else b""
        return None

    def _find_key(self, page: bytes, key: bytes) -> tuple[int, bytes] | None:
        """Return flags and value of a key below a page."""
        while True:
            _, flags, count, _ = _unpack(_PAGE, page, 0)
            if flags == _LEAF_PAGE:
                return _find_in_leaf(page, count, key)
            if flags != _BRANCH_PAGE:
                raise BoltError("neither branch nor leaf")
            page = self._read_page(_find_branch(page, count, key))

    def _read_page(self, number: int) -> bytes:
        self._pages_left -= 1
        if self._pages_left < 0:
            raise BoltError("too many pages")
        offset = number * self._page_size
        if offset >= 1 << 62:
            raise BoltError("no such page")
        page = os.pread(self._fd, self._page_size, offset)
        _, _, _, overflow = _unpack(_PAGE, page, 0)
        size = (overflow + 1) * self._page_size
        if size > _MAX_PAGE_BYTES:
            raise BoltError("too large a page")
        return os.pread(self._fd, size, offset) if overflow else page


def _find_branch(page: bytes, count: int, key: bytes) -> int:
    """Return the page with the last first key that is not above ``key``."""
    number = None
    for index in range(count):
        at = _PAGE.size + index * _BRANCH.size
        position, size, child = _unpack(_BRANCH, page, at)
        if number is None or _slice(page, at + position, size) <= key:
            number = child
        else:
            break
    if number is None:
        raise BoltError("an empty branch")
    return number


def _find_in_leaf(page: bytes, count: int, key: bytes) -> tuple[int, bytes] | None:
    for index in range(count):
        at = _PAGE.size + index * _LEAF.size
        flags, position, key_size, value_size = _unpack(_LEAF, page, at)
        if key_size == len(key) and _slice(page, at + position, key_size) == key:
            return flags, _slice(page, at + position + key_size, value_size)
    return None


def _unpack(layout: struct.Struct, content: bytes, offset: int) -> tuple[int, ...]:
    try:
        return layout.unpack_from(content, offset)
    except struct.error:
        raise BoltError("a page is cut off") from None


def _slice(content: bytes, start: int, size: int) -> bytes:
    if start + size > len(content):
        raise BoltError("a page is cut off")
    return content[start : start + size]
