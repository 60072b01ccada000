"""Compile and attach the kernel side by BCC, and hand it over; a program of its own.

    python3 -I bcc_child.py SOCKET SETTINGS

It runs under the interpreter that BCC is installed for, which need not be the agent's: any from 3.9
on will do, and nothing of this package is imported. BCC keeps its compiler, some 130 MB, for as
long as its process lives: so this one ends, and what remains are file descriptors. They go through
the socket of that number, with a JSON object that says what they are, or why there are none. What
the compiler and the kernel's verifier say is on standard error.

SETTINGS is a JSON object: `source` (a copy of `bpf/`), `headers` (folders of the kernel's
headers), `page_size` and `ring_bytes` (in bytes), `command` (whether to tell command lines). An
empty one asks only which BCC there is.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK_HOOK = "raw_tp/mark_victim"
CONTEXT_HOOK = "kprobe/oom_kill_process"
MARK = "mark_victim"
SIGNAL = "signal_generate"
TRACEPOINTS = (
    *("sched_process_exit", "wake_reaper"),
    *("start_task_reaping", "finish_task_reaping", "skip_task_reaping"),
)
CONTEXT = (
    ("kprobe", "oom_kill_process", "oom_kill_process_kprobe"),
    ("kretprobe", "oom_kill_process", "oom_kill_process_kretprobe"),
    ("kprobe", "out_of_memory", "out_of_memory_kprobe"),
    ("kretprobe", "out_of_memory", "out_of_memory_kretprobe"),
)
MAPS = ("oom_ring", "oom_counters", "oom_reported", "oom_marks")

PROBES = {
    "OOM_MARK_PASSES_TASK": (
        "trace/events/oom.h",
        r"\(mark_victim,\s*TP_PROTO\(struct task_struct",
    ),
    "OOM_EXIT_PRECEDES_MM": (
        "trace/events/sched.h",
        r"\(sched_process_exit,\s*TP_PROTO\(struct task_struct \*\w*, bool",
    ),
    "OOM_MNT_NS_HAS_COUNT": (
        "linux/ns_common.h",
        r"struct ns_common \{(?:(?!refcount_t)[^}])*\}",
    ),
}
"""What `bpf/bcc/compat.h` can't ask itself of the kernel's headers: a file, and a text in it."""


class HandOverError(Exception):
    """There is nothing to hand over; `kind` is whose fault it is."""

    def __init__(self, kind: str, message: str) -> None:
        """Say why in one line."""
        super().__init__(message)
        self.kind = kind


def main(words: list[str]) -> int:
    """Hand over; the exit code is 1 when there is nothing."""
    parent = socket.socket(fileno=int(words[0]))
    try:
        reply, descriptors = hand_over(json.loads(words[1]))
    except HandOverError as error:
        reply, descriptors = {"kind": error.kind, "error": str(error)}, []
    # As one message, for the other side to have all or nothing.
    socket.send_fds(parent, [json.dumps(reply).encode()], descriptors)
    return int(not descriptors)


def hand_over(wanted: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """What is attached, and the descriptors: those of `maps`, in this order, and of the links.

    Raises:
        HandOverError: there is no BCC, or it did not compile, or the kernel refused.
    """
    bcc = _bcc()
    reply: dict[str, Any] = {"version": bcc.__version__, "maps": [], "unavailable": {}}
    if not wanted:
        return reply, []
    texts = {flag: _found(wanted["headers"], *probe) for flag, probe in PROBES.items()}
    flags = [
        f"-I{wanted['source']}",
        f"-DOOM_PAGE_SIZE={wanted['page_size']}ULL",
        f"-DOOM_RING_PAGES={wanted['ring_bytes'] // wanted['page_size']}",
        f"-DOOM_WANT_COMMAND={int(wanted['command'])}",
        *(f"-D{flag}={int(found)}" for flag, found in texts.items()),
    ]
    try:
        loaded = bcc.BPF(src_file=os.fsencode(f"{wanted['source']}/bcc/oom.bcc.c"), cflags=flags)
    except Exception as error:
        raise HandOverError("compile", str(error)) from error
    try:
        _attach_tracepoints(loaded, bcc.BPF, passes_task=texts["OOM_MARK_PASSES_TASK"])
    except Exception as error:
        raise HandOverError("load", str(error)) from error
    try:
        _attach_context(loaded)
    except Exception as error:  # noqa: BLE001  a kill is told without its decision, too
        reply["unavailable"] = {CONTEXT_HOOK: str(error)}
    reply["maps"] = list(MAPS)
    maps = [loaded[name.encode()].map_fd for name in MAPS]
    return reply, [*maps, *_numbers([loaded.raw_tracepoint_fds, loaded.kprobe_fds])]


def _bcc() -> Any:  # noqa: ANN401  a module without types
    try:
        import bcc  # noqa: PLC0415  here is where its want can be told
    except ImportError as error:
        raise HandOverError("absent", str(error)) from error
    except OSError as error:
        raise HandOverError("library", str(error)) from error
    if not hasattr(bcc, "BPF"):
        raise HandOverError("other", str(bcc.__file__))
    return bcc


def _attach_tracepoints(loaded: Any, kinds: Any, *, passes_task: bool) -> None:  # noqa: ANN401  as above
    programs = {MARK: "mark_victim_raw", **{name: name for name in TRACEPOINTS}}
    if not passes_task:
        # That signal is one of many on the host: nobody looks at them without need.
        programs[SIGNAL] = SIGNAL
    for program in programs.values():
        loaded.load_func(program.encode(), kinds.RAW_TRACEPOINT)
    for tracepoint, program in programs.items():
        loaded.attach_raw_tracepoint(tp=tracepoint.encode(), fn_name=program.encode())


def _attach_context(loaded: Any) -> None:  # noqa: ANN401  as above
    done = []
    try:
        for kind, function, program in CONTEXT:
            getattr(loaded, f"attach_{kind}")(event=function.encode(), fn_name=program.encode())
            done.append((kind, function))
    except Exception:
        for kind, function in done:
            getattr(loaded, f"detach_{kind}")(event=function.encode())
        raise


def _found(folders: list[str], header: str, pattern: str) -> bool:
    for folder in folders:
        path = Path(folder, header)
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            return re.search(pattern, text) is not None
    return False


def _numbers(value: Any) -> Iterator[int]:  # noqa: ANN401  nested as this version of BCC has it
    if isinstance(value, int):
        yield value
        return
    for item in value.values() if isinstance(value, dict) else value:
        yield from _numbers(item)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # BCC would detach at its end what others hold now.
    os._exit(code)
