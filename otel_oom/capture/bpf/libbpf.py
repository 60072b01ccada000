"""Typed binding of the functions of libbpf that capture calls.

The last lines that libbpf printed are part of the error that follows them.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from otel_oom.capture.source import CaptureError

_MESSAGE_BYTES: Final = 1 << 18
"""A verifier's log is one message, with the reason at its end."""
_MAX_CHARS: Final = 1024
_DEBUG_LEVEL: Final = 2

_Pointer = ctypes.c_void_p
_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, _Pointer)

_PROTOTYPES: Final[dict[str, tuple[Any, ...]]] = {
    "libbpf_set_print": (_Pointer, _PRINT),
    "libbpf_num_possible_cpus": (ctypes.c_int,),
    "libbpf_version_string": (ctypes.c_char_p,),
    "bpf_object__open_file": (_Pointer, ctypes.c_char_p, _Pointer),
    "bpf_object__load": (ctypes.c_int, _Pointer),
    "bpf_object__close": (None, _Pointer),
    "bpf_object__find_map_by_name": (_Pointer, _Pointer, ctypes.c_char_p),
    "bpf_object__find_program_by_name": (_Pointer, _Pointer, ctypes.c_char_p),
    "bpf_map__fd": (ctypes.c_int, _Pointer),
    "bpf_map__type": (ctypes.c_int, _Pointer),
    "bpf_map__key_size": (ctypes.c_uint32, _Pointer),
    "bpf_map__value_size": (ctypes.c_uint32, _Pointer),
    "bpf_map__max_entries": (ctypes.c_uint32, _Pointer),
    "bpf_map__map_flags": (ctypes.c_uint32, _Pointer),
    "bpf_map__set_autocreate": (ctypes.c_int, _Pointer, ctypes.c_bool),
    "bpf_map__reuse_fd": (ctypes.c_int, _Pointer, ctypes.c_int),
    "bpf_map__set_max_entries": (ctypes.c_int, _Pointer, ctypes.c_uint32),
    "bpf_map__set_initial_value": (ctypes.c_int, _Pointer, _Pointer, ctypes.c_size_t),
    "bpf_map_lookup_elem": (ctypes.c_int, ctypes.c_int, _Pointer, _Pointer),
    "bpf_map_update_elem": (ctypes.c_int, ctypes.c_int, _Pointer, _Pointer, ctypes.c_uint64),
    "bpf_map_get_next_key": (ctypes.c_int, ctypes.c_int, _Pointer, _Pointer),
    "bpf_map_delete_elem": (ctypes.c_int, ctypes.c_int, _Pointer),
    "bpf_program__set_autoload": (ctypes.c_int, _Pointer, ctypes.c_bool),
    "bpf_program__attach": (_Pointer, _Pointer),
    "bpf_prog_test_run_opts": (ctypes.c_int, ctypes.c_int, _Pointer),
    "bpf_program__fd": (ctypes.c_int, _Pointer),
    "bpf_link__fd": (ctypes.c_int, _Pointer),
    "bpf_link__disconnect": (None, _Pointer),
    "bpf_link__destroy": (ctypes.c_int, _Pointer),
    "bpf_obj_pin": (ctypes.c_int, ctypes.c_int, ctypes.c_char_p),
    "bpf_obj_get": (ctypes.c_int, ctypes.c_char_p),
    "bpf_obj_get_info_by_fd": (ctypes.c_int, ctypes.c_int, _Pointer, _Pointer),
    "bpf_prog_get_fd_by_id": (ctypes.c_int, ctypes.c_uint32),
    "bpf_prog_load": (
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        _Pointer,
    ),
}


class LibbpfError(CaptureError):
    """Failed call of libbpf; ``code`` is its errno."""

    def __init__(self, what: str, code: int, messages: str = "") -> None:
        """Describe the failure of ``what``, with libbpf's own ``messages``."""
        self.code = code
        reason = f"{what}: {os.strerror(code)}"
        super().__init__(f"{reason}\n{messages}" if messages else reason)


_SLOW: Final = frozenset({"bpf_object__load", "bpf_program__attach"})
"""Functions that release the interpreter's lock; all others return within microseconds."""

_BUNDLED: Final = Path(__file__).with_name("libbpf.so.1")
"""The library of a wheel for manylinux. A name without version would hide this module."""
_SYSTEM: Final = "libbpf.so.1"


@cache
def load_library() -> ctypes.CDLL:
    """Load the wheel's libbpf, else the system's, with a prototype for each function used.

    Raises:
        CaptureError: neither can be loaded, or the system's is too old.
    """
    errors = []
    for path in (str(_BUNDLED), _SYSTEM) if _BUNDLED.exists() else (_SYSTEM,):
        try:
            return _load(path)
        except (OSError, AttributeError) as error:
            errors.append(str(error))
    raise CaptureError(
        f"libbpf 1.x cannot be loaded ({'; '.join(errors)}). "
        "Install it: apt-get install libbpf1 (Debian, Ubuntu), dnf install libbpf (Fedora)."
    )


def _load(path: str) -> ctypes.CDLL:
    library = ctypes.PyDLL(path, use_errno=True)
    unlocking = ctypes.CDLL(path, use_errno=True)
    for name, (result, *arguments) in _PROTOTYPES.items():
        function = getattr(unlocking if name in _SLOW else library, name)
        function.restype = result
        function.argtypes = arguments
        setattr(library, name, function)
    return library


_LIBC: Final = ctypes.CDLL(None)
_MESSAGES: Final[deque[str]] = deque(maxlen=12)


def _on_message(level: int, format_: bytes, arguments: int) -> int:
    if level < _DEBUG_LEVEL:
        buffer = ctypes.create_string_buffer(_MESSAGE_BYTES)
        _LIBC.vsnprintf(buffer, _MESSAGE_BYTES, format_, _Pointer(arguments))
        message = buffer.value.decode("utf-8", errors="replace").rstrip()
        _MESSAGES.append(message if len(message) <= _MAX_CHARS else f"…{message[-_MAX_CHARS:]}")
    return 0


_ON_MESSAGE: Final = _PRINT(_on_message)
"""Callback of the whole process: it must never be freed."""


class Libbpf:
    """The shared library, with a typed prototype for each function used."""

    def __init__(self) -> None:
        """Load libbpf 1.x.

        Raises:
            CaptureError: it is not installed, or too old.
        """
        self._library = load_library()
        self._library.libbpf_set_print(_ON_MESSAGE)

    def call(self, name: str, *arguments: object) -> Any:  # noqa: ANN401  as the C function returns
        """Call the C function ``name`` and return its result.

        Raises:
            LibbpfError: it returned a null pointer or a negative number.
        """
        ctypes.set_errno(0)
        function = getattr(self._library, name)
        result = function(*arguments)
        failed = (
            result is None if function.restype is _Pointer else result is not None and result < 0
        )
        if failed:
            code = -result if isinstance(result, int) and result < -1 else ctypes.get_errno()
            raise LibbpfError(name, code or errno.EINVAL, self.pop_messages())
        return result

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Drop libbpf's messages: a load has 900 for debugging, each a wait for other threads."""
        self._library.libbpf_set_print(_PRINT())
        try:
            yield
        finally:
            self._library.libbpf_set_print(_ON_MESSAGE)

    def pop_messages(self) -> str:
        """Return and clear what libbpf printed last."""
        messages = "\n".join(_MESSAGES)
        _MESSAGES.clear()
        return messages

    @property
    def version(self) -> str:
        """Version of the library, such as ``v1.1``."""
        return str(self._library.libbpf_version_string().decode())
