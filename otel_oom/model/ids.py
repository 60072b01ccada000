"""Ids derived from names: one event gets the same ids each time that it is read."""

from __future__ import annotations

try:
    # hashlib has the same function, and loads 4 MB of OpenSSL with it.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b


def derive_uuid(name: str) -> str:
    """Derive a UUID of version 8 (RFC 9562) from ``name``."""
    digest = bytearray(derive_digest(name, "uid", 16))
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def derive_digest(name: str, purpose: str, size: int) -> bytes:
    """Derive ``size`` bytes from ``name``, different ones for each purpose."""
    return blake2b(name.encode(), digest_size=size, person=purpose.encode()).digest()


def derive_trace_id(uid: str) -> int:
    """Derive the 128 bits of a trace from the uid of its first event; never zero."""
    return int.from_bytes(derive_digest(uid, "trace", 16), "big") or 1


def derive_span_id(uid: str) -> int:
    """Derive the 64 bits of an event's span; never zero."""
    return int.from_bytes(derive_digest(uid, "span", 8), "big") or 1
