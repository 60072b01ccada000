"""The kernel side, loaded and attached by the best hooks that this kernel allows."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.capture.bpf.libbpf import Libbpf, LibbpfError
from otel_oom.capture.bpf.maps import Maps
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.pin_set import RING
from otel_oom.capture.bpf.pinning import Pins
from otel_oom.capture.source import CaptureError

OBJECT: Final = Path(__file__).with_name("oom.bpf.o")
OBJECT_ADVICE: Final = "Install otel-oom again, or build it in a source tree: make -C bpf"

VICTIM_HOOKS: Final = {
    "tp_btf/mark_victim": ("mark_victim_btf",),
    "raw_tp/mark_victim": ("mark_victim_raw",),
}
"""How the kill can be seen, the best first, and the programs for each."""

DECISION_HOOKS: Final = {
    "fentry/oom_kill_process": (
        "oom_kill_process_fentry",
        "oom_kill_process_fexit",
        "out_of_memory_fexit",
    ),
    "kprobe/oom_kill_process": (
        "oom_kill_process_kprobe",
        "oom_kill_process_kretprobe",
        "out_of_memory_kprobe",
        "out_of_memory_kretprobe",
    ),
    "": (),
}
"""How the decision around it can be seen, likewise; not at all is good enough for a kill."""

_SIGNAL: Final = "raw_tp/signal_generate"

_ENDS: Final = (
    "sched_process_exit",
    "wake_reaper",
    "start_task_reaping",
    "finish_task_reaping",
    "skip_task_reaping",
)
_ALTERNATIVES: Final = frozenset(
    program
    for hooks in (VICTIM_HOOKS, DECISION_HOOKS)
    for programs in hooks.values()
    for program in programs
)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What the loader decides on: the size of the ring in bytes, and what to read of a victim."""

    ring_bytes: int
    command: bool


@dataclass(frozen=True, slots=True)
class LoadedObject:
    """A loaded object that captures, by which hooks, and the reasons for each that was refused."""

    object: Maps
    hook: str
    decision_source: str
    refused: dict[str, str]


def attach(library: Libbpf, wanted: LoadOptions, pins: Pins | None) -> LoadedObject:
    """Try the best way first, and give up only what this kernel refuses of it.

    With ``pins`` the state of an earlier agent is taken on, and its links are replaced.

    Raises:
        CaptureError: nothing is allowed, or the object is none.
        BpffsError: nothing can be pinned.
    """
    codes = set()
    refused: dict[str, str] = {}
    marks, contexts = list(VICTIM_HOOKS), list(DECISION_HOOKS)
    while marks:
        mark, context = marks[0], contexts[0]
        try:
            opened = _load(
                library, wanted, pins, (*DECISION_HOOKS[context], *VICTIM_HOOKS[mark]), refused
            )
        except LibbpfError as error:
            of_mark = not context or any(program in str(error) for program in VICTIM_HOOKS[mark])
            codes.add(error.code)
            refused[mark if of_mark else context] = str(error)
            (marks if of_mark else contexts).pop(0)
        else:
            return LoadedObject(opened, mark, context, refused)
    if codes == {errno.EPERM}:
        raise CaptureError(
            "The kernel lets this process load no BPF programs, although it has the "
            "capabilities. It is in a container without privileges, a user namespace, or "
            "below a seccomp filter: run it on the host, or in a privileged container."
        )
    reasons = "\n".join(f"{hook}: {reason}" for hook, reason in refused.items())
    raise CaptureError(
        "The kernel refused every hook of the OOM killer. Please report it with its reasons:\n"
        + reasons
    )


def _load(
    library: Libbpf,
    wanted: LoadOptions,
    pins: Pins | None,
    programs: tuple[str, ...],
    refused: dict[str, str],
) -> BpfObject:
    opened = _open(library)
    try:
        for program in _ALTERNATIVES.difference(programs):
            opened.skip(program)
        opened.resize(RING, wanted.ring_bytes)
        opened.set_constants(struct.pack("=QQ", os.sysconf("SC_PAGE_SIZE"), int(wanted.command)))
        if pins:
            pins.reuse_maps(opened)
        opened.load()
        if pins:
            pins.pin_maps(opened)
        for program in (*_ENDS, *programs):
            opened.attach(program)
        if not _mark_has_task(opened):
            _attach_signal(opened, refused)
        if pins:
            pins.pin_links(opened)
    except BaseException:
        opened.close()
        raise
    return opened


def _attach_signal(opened: BpfObject, refused: dict[str, str]) -> None:
    """See the victim before a mark that is a number; refused, that costs its details alone."""
    try:
        opened.attach(_SIGNAL.rpartition("/")[2])
    except LibbpfError as error:
        refused[_SIGNAL] = str(error)


def _open(library: Libbpf) -> BpfObject:
    try:
        return BpfObject(library, OBJECT)
    except LibbpfError as error:
        raise CaptureError(
            f"The BPF object {OBJECT} can't be used. {OBJECT_ADVICE}\n{error}"
        ) from error


def _mark_has_task(opened: BpfObject) -> bool:
    """Whether the mark passes the victim; on older kernels it is a number, and a signal before it.

    That signal is one of many on the host, so that nobody looks at them without need.
    """
    try:
        return opened.run("mark_has_task", ctypes.c_uint64(0)) == 1
    except LibbpfError:
        return False
