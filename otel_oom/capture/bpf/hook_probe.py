"""Find hooks that the kernel refuses without loading the programs.

A load costs tens of milliseconds for the kernel's types and the verifier; a probe costs 0.1.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from otel_oom.capture.bpf.libbpf import Libbpf, LibbpfError

_TRACING: Final = 26
"""BPF_PROG_TYPE_TRACING."""
_TRACE_FENTRY: Final = 24
"""BPF_TRACE_FENTRY."""
_NO_FUNCTION: Final = 1
"""A type of the kernel that is no function: a kernel that allows fentry answers EINVAL."""
_RETURN_ZERO: Final = b"\xb7\x00\x00\x00\x00\x00\x00\x00\x95\x00\x00\x00\x00\x00\x00\x00"
"""``r0 = 0; exit``."""
_INSTRUCTION_BYTES: Final = 8

_RAW_TRACEPOINT: Final = 17
"""BPF_PROG_TYPE_RAW_TRACEPOINT."""
_CALL_LOOP: Final = b"\x85\x00\x00\x00\xb5\x00\x00\x00" + _RETURN_ZERO
"""``call bpf_loop`` (helper 181), with arguments that are not set; then as above."""

_KPROBE_EVENTS: Final = (
    Path("/sys/bus/event_source/devices/kprobe/type"),
    Path("/sys/kernel/tracing/kprobe_events"),
    Path("/sys/kernel/debug/tracing/kprobe_events"),
)
"""Ways to attach a kprobe, of which libbpf uses the first that exists."""


class _LoadOptions(ctypes.Structure):
    """The first fields of ``struct bpf_prog_load_opts``; libbpf takes the rest as zero."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_int),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
    )


def find_refusal(library: Libbpf, hook: str) -> str | None:
    """Return why the kernel refuses programs at ``hook``; ``None`` if only a load can find out."""
    match hook.partition("/")[0]:
        case "fentry":
            return _find_fentry_refusal(library)
        case "bpf_loop":
            return _find_loop_refusal(library)
        case "kprobe" if not any(path.exists() for path in _KPROBE_EVENTS):
            return "this kernel has no kprobes"
    return None


def _find_fentry_refusal(library: Libbpf) -> str | None:
    options = _LoadOptions(
        sz=ctypes.sizeof(_LoadOptions),
        expected_attach_type=_TRACE_FENTRY,
        attach_btf_id=_NO_FUNCTION,
    )
    count = len(_RETURN_ZERO) // _INSTRUCTION_BYTES
    try:
        descriptor = library.call(
            "bpf_prog_load", _TRACING, None, b"GPL", _RETURN_ZERO, count, ctypes.byref(options)
        )
    except LibbpfError as error:
        if error.code == errno.EPERM:
            return f"the kernel refuses the smallest program: {os.strerror(error.code)}"
        return None
    os.close(descriptor)
    return None


def _find_loop_refusal(library: Libbpf) -> str | None:
    """A kernel that has the helper rejects its arguments (EACCES), another one the call."""
    count = len(_CALL_LOOP) // _INSTRUCTION_BYTES
    try:
        library.call("bpf_prog_load", _RAW_TRACEPOINT, None, b"GPL", _CALL_LOOP, count, None)
    except LibbpfError as error:
        if error.code == errno.EINVAL:
            return "this kernel has no bpf_loop()"
    return None
