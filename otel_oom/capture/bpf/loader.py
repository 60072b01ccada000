"""Load the BPF object, and attach it by the best hooks that this kernel allows."""

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
"""Hooks of a kill, the best first, with their programs."""

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
"""Hooks of the decision, the best first, with their programs. The last one is none at all."""

_SIGNAL: Final = "raw_tp/signal_generate"

_OUTCOME_PROGRAMS: Final = (
    "sched_process_exit",
    "wake_reaper",
    "start_task_reaping",
    "finish_task_reaping",
    "skip_task_reaping",
)
_ALTERNATIVE_PROGRAMS: Final = frozenset(
    program
    for hooks in (VICTIM_HOOKS, DECISION_HOOKS)
    for programs in hooks.values()
    for program in programs
)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Size of the ring buffer in bytes; ``command`` records the victim's command line."""

    ring_bytes: int
    command: bool


@dataclass(frozen=True, slots=True)
class LoadedObject:
    """An attached BPF object and its hooks; ``unavailable`` has the reason by hook."""

    object: Maps
    hook: str
    decision_source: str
    unavailable: dict[str, str]


def load_and_attach(library: Libbpf, options: LoadOptions, pins: Pins | None) -> LoadedObject:
    """Load and attach by the best hooks, and fall back only from those that the kernel rejects.

    With ``pins`` the maps of an earlier agent are reused, and its links are replaced.

    Raises:
        CaptureError: no hook is available, or the object file can't be used.
        BpffsError: nothing can be pinned.
    """
    codes = set()
    unavailable: dict[str, str] = {}
    victim_hooks, decision_hooks = list(VICTIM_HOOKS), list(DECISION_HOOKS)
    while victim_hooks:
        victim_hook, decision_hook = victim_hooks[0], decision_hooks[0]
        victim_programs = VICTIM_HOOKS[victim_hook]
        programs = (*DECISION_HOOKS[decision_hook], *victim_programs)
        try:
            loaded = _load(library, options, pins, programs, unavailable)
        except LibbpfError as error:
            codes.add(error.code)
            if not decision_hook or any(program in str(error) for program in victim_programs):
                unavailable[victim_hooks.pop(0)] = str(error)
            else:
                unavailable[decision_hooks.pop(0)] = str(error)
        else:
            return LoadedObject(loaded, victim_hook, decision_hook, unavailable)
    if codes == {errno.EPERM}:
        raise CaptureError(
            "The kernel lets this process load no BPF programs, although it has the "
            "capabilities. It is in a container without privileges, a user namespace, or "
            "below a seccomp filter: run it on the host, or in a privileged container."
        )
    reasons = "\n".join(f"{hook}: {reason}" for hook, reason in unavailable.items())
    raise CaptureError(
        "The kernel rejected every hook of the OOM killer. Please report it with its reasons:\n"
        + reasons
    )


def _load(
    library: Libbpf,
    options: LoadOptions,
    pins: Pins | None,
    programs: tuple[str, ...],
    unavailable: dict[str, str],
) -> BpfObject:
    opened = _open(library)
    try:
        for program in _ALTERNATIVE_PROGRAMS.difference(programs):
            opened.skip(program)
        opened.resize(RING, options.ring_bytes)
        opened.set_constants(struct.pack("=QQ", os.sysconf("SC_PAGE_SIZE"), int(options.command)))
        if pins:
            pins.reuse_maps(opened)
        opened.load()
        if pins:
            pins.pin_maps(opened)
        for program in (*_OUTCOME_PROGRAMS, *programs):
            opened.attach(program)
        if not _mark_has_task(opened):
            _attach_signal(opened, unavailable)
        if pins:
            pins.pin_links(opened)
    except BaseException:
        opened.close()
        raise
    return opened


def _open(library: Libbpf) -> BpfObject:
    try:
        return BpfObject(library, OBJECT)
    except LibbpfError as error:
        raise CaptureError(
            f"The BPF object {OBJECT} can't be used. {OBJECT_ADVICE}\n{error}"
        ) from error


def _mark_has_task(opened: BpfObject) -> bool:
    """Check that the tracepoint passes the victim's task; older kernels pass its thread id."""
    try:
        return opened.run("mark_has_task", ctypes.c_uint64(0)) == 1
    except LibbpfError:
        return False


def _attach_signal(opened: BpfObject, unavailable: dict[str, str]) -> None:
    """Read the victim's task from its signal, which precedes a mark that has only its id.

    Hosts send many other signals, so this hook is attached only where it is needed. Without it
    only the details of the victim are missing.
    """
    try:
        opened.attach(_SIGNAL.rpartition("/")[2])
    except LibbpfError as error:
        unavailable[_SIGNAL] = str(error)
