"""Load the BPF object, and attach it by the best hooks that this kernel allows."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.capture.bpf.capabilities import explain_refused_load
from otel_oom.capture.bpf.hook_probe import find_refusal
from otel_oom.capture.bpf.libbpf import Libbpf, LibbpfError
from otel_oom.capture.bpf.maps import Maps
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.pin_set import MAPPINGS_PROGRAM, RING, STATE_MAPS
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

_MAPPING_HOOK: Final = "bpf_loop/mark_victim"
"""What the program that lists mappings needs; without it only they are missing."""

_SIGNAL: Final = "raw_tp/signal_generate"
DAEMON_SIGNAL: Final = "daemon_signal"
SIGNAL_RING: Final = "oom_signal_ring"
_DAEMON_SYSRQ: Final = "daemon_sysrq"
SYSRQ_REQUESTS: Final = "oom_sysrq"
_DAEMON_PROGRAMS: Final = (DAEMON_SIGNAL, _DAEMON_SYSRQ)
_DAEMON_MAPS: Final = (SIGNAL_RING, SYSRQ_REQUESTS)
_SIGNAL_MAPS: Final = (*_DAEMON_MAPS, "oom_counters", "oom_scratch")
"""Maps of these programs, of which the last two are not those of the other programs."""

_OUTCOME_PROGRAMS: Final = (
    "sched_process_exit",
    "wake_reaper",
    "start_task_reaping",
    "finish_task_reaping",
    "skip_task_reaping",
)
_OTHER_PROGRAMS: Final = ("mark_has_task", "signal_generate", "resolve_symbol", MAPPINGS_PROGRAM)
_ALTERNATIVE_PROGRAMS: Final = frozenset(
    program
    for hooks in (VICTIM_HOOKS, DECISION_HOOKS)
    for programs in hooks.values()
    for program in programs
)
_MAPS: Final = (*STATE_MAPS, "oom_scratch", "oom_symbol", "oom_mapping_walk")


class LoadOptions(Struct, frozen=True):
    """Size of the ring buffer in bytes; ``command`` records the victim's command line."""

    ring_bytes: int
    command: bool


class LoadedObject(Struct, frozen=True):
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
    victim_hooks, decision_hooks = list(VICTIM_HOOKS), []
    for hook in DECISION_HOOKS:
        refusal = find_refusal(library, hook)
        if refusal:
            unavailable[hook] = refusal
        else:
            decision_hooks.append(hook)
    refusal = find_refusal(library, _MAPPING_HOOK)
    if refusal:
        unavailable[_MAPPING_HOOK] = refusal
    while victim_hooks:
        victim_hook, decision_hook = victim_hooks[0], decision_hooks[0]
        victim_programs = VICTIM_HOOKS[victim_hook]
        programs = (
            *(() if _MAPPING_HOOK in unavailable else (MAPPINGS_PROGRAM,)),
            *DECISION_HOOKS[decision_hook],
            *victim_programs,
        )
        try:
            loaded = _load(library, options, pins, programs, unavailable)
        except LibbpfError as error:
            codes.add(error.code)
            if MAPPINGS_PROGRAM in str(error) and MAPPINGS_PROGRAM in programs:
                unavailable[_MAPPING_HOOK] = str(error)
            elif not decision_hook or any(program in str(error) for program in victim_programs):
                unavailable[victim_hooks.pop(0)] = str(error)
            else:
                unavailable[decision_hooks.pop(0)] = str(error)
        else:
            return LoadedObject(loaded, victim_hook, decision_hook, unavailable)
    if codes == {errno.EPERM}:
        raise CaptureError(
            "The kernel lets this process load no BPF programs, although it has the "
            f"capabilities: {explain_refused_load()}"
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
    """Load and attach; what fails is tried once more, for the messages that say why."""
    try:
        with library.silence():
            return _load_once(library, options, pins, programs, unavailable)
    except LibbpfError:
        return _load_once(library, options, pins, programs, unavailable)


def _load_once(
    library: Libbpf,
    options: LoadOptions,
    pins: Pins | None,
    programs: tuple[str, ...],
    unavailable: dict[str, str],
) -> BpfObject:
    opened = _open(library)
    try:
        for program in (_ALTERNATIVE_PROGRAMS | {MAPPINGS_PROGRAM}).difference(programs):
            opened.skip(program)
        for program in _DAEMON_PROGRAMS:
            opened.skip(program)
        for map_ in _DAEMON_MAPS:
            opened.skip_map(map_)
        opened.resize(RING, options.ring_bytes)
        _set_constants(opened, want_command=options.command)
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


def load_daemon_signals(library: Libbpf) -> BpfObject:
    """Load and attach the programs that record what userspace OOM daemons do, and no others.

    Without a kprobe, only their requests that the kernel kill are missing.

    Raises:
        CaptureError: the kernel rejects them, or the object file can't be used.
    """
    try:
        return _load_for_daemons(library, _DAEMON_PROGRAMS)
    except LibbpfError:
        return _load_for_daemons(library, (DAEMON_SIGNAL,))


def _load_for_daemons(library: Libbpf, programs: tuple[str, ...]) -> BpfObject:
    opened = _open(library)
    try:
        for program in set(_DAEMON_PROGRAMS).difference(programs):
            opened.skip(program)
        for program in (*_OUTCOME_PROGRAMS, *_ALTERNATIVE_PROGRAMS, *_OTHER_PROGRAMS):
            opened.skip(program)
        for map_ in _MAPS:
            if map_ not in _SIGNAL_MAPS:
                opened.skip_map(map_)
        _set_constants(opened, want_command=False)
        opened.load()
        for program in programs:
            opened.attach(program)
    except BaseException:
        opened.close()
        raise
    return opened


def _set_constants(opened: BpfObject, *, want_command: bool) -> None:
    opened.set_constants(struct.pack("=QQ", os.sysconf("SC_PAGE_SIZE"), int(want_command)))


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
