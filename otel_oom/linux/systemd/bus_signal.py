"""Messages of D-Bus as far as one signal needs them (D-Bus Specification, "Message Protocol").

Other programs of the host can send messages, too: each length is checked before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from otel_oom.model.text import decode_bytes

MAX_MESSAGE_BYTES: Final = 1 << 16
_FIXED_BYTES: Final = 16
_ENDIANNESS: Final = {ord("l"): "<", ord("B"): ">"}
_METHOD_CALL, _SIGNAL = 1, 4
_PATH, _INTERFACE, _MEMBER, _DESTINATION, _SIGNATURE = 1, 2, 3, 6, 8
_NO_REPLY: Final = 1
_BUS: Final = {_PATH: ("o", "/org/freedesktop/DBus"), _DESTINATION: ("s", "org.freedesktop.DBus")}


class BusSignal(Struct, frozen=True):
    """A signal with arguments that are all strings.

    ``is_broadcast``: it has no destination, so that it came by a match rule, whose sender the bus
    compares.
    """

    interface: str
    member: str
    arguments: tuple[str, ...]
    is_broadcast: bool


def build_call(member: str, serial: int, *arguments: str) -> bytes:
    """Return a call of a method of the bus itself, with strings as arguments."""
    fields = {**_BUS, _INTERFACE: ("s", "org.freedesktop.DBus"), _MEMBER: ("s", member)}
    if arguments:
        fields[_SIGNATURE] = ("g", "s" * len(arguments))
    array = b""
    for code, (kind, value) in sorted(fields.items()):
        array = _pad(array, 8) + bytes((code, 1)) + kind.encode() + b"\0"
        if kind == "g":
            array += bytes((len(value),)) + value.encode() + b"\0"
        else:
            array = _pad(array, 4) + _encode_string(value)
    body = b""
    for argument in arguments:
        body = _pad(body, 4) + _encode_string(argument)
    flags = _NO_REPLY if arguments else 0
    start = struct.pack("<cBBBIII", b"l", _METHOD_CALL, flags, 1, len(body), serial, len(array))
    return _pad(start + array, 8) + body


def message_bytes(start: bytes) -> int | None:
    """Return the length of the message that starts so; ``None`` if more bytes are needed.

    Raises:
        ValueError: it is no message, or too long.
    """
    if len(start) < _FIXED_BYTES:
        return None
    order = _ENDIANNESS.get(start[0])
    if order is None:
        raise ValueError(start[0])
    body, _, fields = struct.unpack_from(f"{order}III", start, 4)
    length = -(-(_FIXED_BYTES + fields) // 8) * 8 + body
    if length > MAX_MESSAGE_BYTES:
        raise ValueError(length)
    return int(length)


def parse_signal(message: bytes) -> BusSignal | None:
    """Parse a whole message; ``None`` for what is no signal of strings.

    Raises:
        ValueError, struct.error, IndexError: the message is malformed.
    """
    order = _ENDIANNESS[message[0]]
    (length,) = struct.unpack_from(f"{order}I", message, 12)
    end = _FIXED_BYTES + length
    fields = dict(_read_fields(message, order, end))
    signature = fields.get(_SIGNATURE, "")
    if message[1] != _SIGNAL or signature.strip("s"):
        return None
    arguments, offset = [], -(-end // 8) * 8
    for _ in signature:
        text, offset = _read_string(message, order, -(-offset // 4) * 4)
        arguments.append(text)
    return BusSignal(
        fields.get(_INTERFACE, ""),
        fields.get(_MEMBER, ""),
        tuple(arguments),
        is_broadcast=_DESTINATION not in fields,
    )


def _read_fields(message: bytes, order: str, end: int) -> Iterator[tuple[int, str]]:
    offset = _FIXED_BYTES
    while offset < end:
        code, length = message[offset], message[offset + 1]
        kind = message[offset + 2 : offset + 2 + length]
        offset += 3 + length
        if kind == b"g":
            text = message[offset + 1 : offset + 1 + message[offset]].decode("ascii")
            offset += 2 + len(text)
        elif kind in (b"s", b"o"):
            text, offset = _read_string(message, order, -(-offset // 4) * 4)
        elif kind == b"u":
            text, offset = "", -(-offset // 4) * 4 + 4
        else:
            raise ValueError(kind)
        yield code, text
        offset = -(-offset // 8) * 8


def _read_string(message: bytes, order: str, offset: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(f"{order}I", message, offset)
    start = offset + 4
    if start + length >= len(message):
        raise ValueError(length)
    return decode_bytes(message[start : start + length]), start + length + 1


def _encode_string(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<I", len(encoded)) + encoded + b"\0"


def _pad(data: bytes, alignment: int) -> bytes:
    return data + bytes(-len(data) % alignment)
