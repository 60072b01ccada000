"""Compile and attach the kernel side by BCC, and send its descriptors; a program of its own.

    python3 -I child_main.py SOCKET OPTIONS

It runs by the interpreter that has BCC, which may be another than the agent's: any from 3.9 on.
Nothing of this package is imported. BCC keeps its compiler, some 130 MB, for the life of its
process, so this process ends and only file descriptors remain. They are sent through the socket of
that number, with a JSON object that names them or an error. The messages of the compiler and of the
kernel's verifier are on standard error.

OPTIONS is a JSON object: `source` (a copy of `bpf/`), `headers` (folders of the kernel's headers),
`page_size` and `ring_bytes` (in bytes), `command` (whether to record command lines). With an empty
one only the version of BCC is sent.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VICTIM_HOOK = "raw_tp/mark_victim"
DECISION_HOOK = "kprobe/oom_kill_process"
MARK = "mark_victim"
SIGNAL = "signal_generate"
TRACEPOINTS = (
    *("sched_process_exit", "wake_reaper"),
    *("start_task_reaping", "finish_task_reaping", "skip_task_reaping"),
)
DECISION_PROBES = (
    ("kprobe", "oom_kill_process", "oom_kill_process_kprobe"),
    ("kretprobe", "oom_kill_process", "oom_kill_process_kretprobe"),
    ("kprobe", "out_of_memory", "out_of_memory_kprobe"),
    ("kretprobe", "out_of_memory", "out_of_memory_kretprobe"),
)
MAPS = ("oom_ring", "oom_counters", "oom_reported", "oom_marks", "oom_lost_kills", "oom_victims")

HEADER_PATTERNS = {
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
"""Header and pattern by macro of `bpf/bcc/compat.h`, for what the preprocessor can't detect."""


class ChildError(Exception):
    """BCC is missing or failed; `kind` is the reason."""

    def __init__(self, kind: str, message: str) -> None:
        """Describe the failure in one line."""
        super().__init__(message)
        self.kind = kind


def main(words: list[str]) -> int:
    """Send the descriptors, or the error; return 1 without descriptors."""
    parent = socket.socket(fileno=int(words[0]))
    try:
        reply, descriptors = load_and_attach(json.loads(words[1]))
    except ChildError as error:
        reply, descriptors = {"kind": error.kind, "error": str(error)}, []
    # One message, so that the parent receives all or nothing.
    socket.send_fds(parent, [json.dumps(reply).encode()], descriptors)
    return int(not descriptors)


def load_and_attach(options: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Return the reply, and the descriptors of its `maps`, in this order, and of the links.

    Raises:
        ChildError: BCC is missing or can't compile, or the kernel rejected the programs.
    """
    bcc = _import_bcc()
    reply: dict[str, Any] = {"version": bcc.__version__, "maps": [], "unavailable": {}}
    if not options:
        return reply, []
    headers = options["headers"]
    macros = {macro: _header_matches(headers, *it) for macro, it in HEADER_PATTERNS.items()}
    flags = [
        f"-I{options['source']}",
        f"-DOOM_PAGE_SIZE={options['page_size']}ULL",
        f"-DOOM_RING_PAGES={options['ring_bytes'] // options['page_size']}",
        f"-DOOM_WANT_COMMAND={int(options['command'])}",
        *(f"-D{macro}={int(value)}" for macro, value in macros.items()),
    ]
    try:
        loaded = bcc.BPF(src_file=os.fsencode(f"{options['source']}/bcc/oom.bcc.c"), cflags=flags)
    except Exception as error:
        raise ChildError("compile", str(error)) from error
    try:
        _attach_tracepoints(loaded, bcc.BPF, passes_task=macros["OOM_MARK_PASSES_TASK"])
    except Exception as error:
        raise ChildError("load", str(error)) from error
    try:
        _attach_decision_probes(loaded)
    except Exception as error:  # noqa: BLE001  kills are recorded without decisions, too
        reply["unavailable"] = {DECISION_HOOK: str(error)}
    reply["maps"] = list(MAPS)
    maps = [loaded[name.encode()].map_fd for name in MAPS]
    return reply, [*maps, *_flatten([loaded.raw_tracepoint_fds, loaded.kprobe_fds])]


def _import_bcc() -> Any:  # noqa: ANN401  a module without types
    try:
        import bcc  # noqa: PLC0415  so that its absence is an error of ours
    except ImportError as error:
        raise ChildError("absent", str(error)) from error
    except OSError as error:
        raise ChildError("library", str(error)) from error
    if not hasattr(bcc, "BPF"):
        raise ChildError("other", str(bcc.__file__))
    return bcc


def _attach_tracepoints(loaded: Any, kinds: Any, *, passes_task: bool) -> None:  # noqa: ANN401  as above
    programs = {MARK: "mark_victim_raw", **{name: name for name in TRACEPOINTS}}
    if not passes_task:
        # Hosts send many other signals, so this hook is attached only where it is needed.
        programs[SIGNAL] = SIGNAL
    for program in programs.values():
        loaded.load_func(program.encode(), kinds.RAW_TRACEPOINT)
    for tracepoint, program in programs.items():
        loaded.attach_raw_tracepoint(tp=tracepoint.encode(), fn_name=program.encode())


def _attach_decision_probes(loaded: Any) -> None:  # noqa: ANN401  as above
    attached = []
    try:
        for kind, function, program in DECISION_PROBES:
            getattr(loaded, f"attach_{kind}")(event=function.encode(), fn_name=program.encode())
            attached.append((kind, function))
    except Exception:
        for kind, function in attached:
            getattr(loaded, f"detach_{kind}")(event=function.encode())
        raise


def _header_matches(folders: list[str], header: str, pattern: str) -> bool:
    for folder in folders:
        path = Path(folder, header)
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            return re.search(pattern, text) is not None
    return False


def _flatten(value: Any) -> Iterator[int]:  # noqa: ANN401  nested as this version of BCC has it
    if isinstance(value, int):
        yield value
        return
    for item in value.values() if isinstance(value, dict) else value:
        yield from _flatten(item)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # A normal exit of BCC would detach the programs, whose links the parent has now.
    os._exit(code)
