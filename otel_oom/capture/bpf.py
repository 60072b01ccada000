"""The default source: the CO-RE object, loaded by libbpf."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from otel_oom import clock
from otel_oom.capture import libbpf
from otel_oom.capture.decode import Decoder, WireError
from otel_oom.capture.gfp import GfpNames
from otel_oom.capture.libbpf import (
    BpfObject,
    Libbpf,
    LibbpfError,
    per_cpu_values,
)
from otel_oom.capture.ring import RingBuffer, RingError
from otel_oom.capture.source import CaptureError, Handler
from otel_oom.capture.symbols import Symbols
from otel_oom.capture.wire import Counters
from otel_oom.event import Event, Loss, OomKill

if TYPE_CHECKING:
    from otel_oom.capture.kmsg_context import KernelLogContext

_LOG = logging.getLogger(__name__)

OBJECT: Final = Path(__file__).with_name("oom.bpf.o")
VMLINUX_BTF: Final = Path("/sys/kernel/btf/vmlinux")

RING_BYTES: Final = 1 << 20
"""Some 700 kills while we are busy. It is mapped twice, and all of it counts as ours."""

MARKS: Final = {
    "tp_btf/mark_victim": ("mark_victim_btf",),
    "raw_tp/mark_victim": ("mark_victim_raw",),
}
"""How the kill can be seen, the best first, and the programs for each."""

CONTEXTS: Final = {
    "fentry/oom_kill_process": ("kill_begins_fentry", "kill_ends_fentry", "search_ends_fentry"),
    "kprobe/oom_kill_process": (
        "kill_begins_kprobe",
        "kill_ends_kprobe",
        "search_begins_kprobe",
        "search_ends_kprobe",
    ),
    "": (),
}
"""How the decision around it can be seen, likewise; not at all is good enough for a kill."""

_SIGNAL: Final = "raw_tp/signal_generate"

_ENDS: Final = (
    "process_exit",
    "wake_reaper",
    "start_task_reaping",
    "finish_task_reaping",
    "skip_task_reaping",
)
_ALTERNATIVES: Final = frozenset(
    program for hooks in (MARKS, CONTEXTS) for programs in hooks.values() for program in programs
)

_OBJECT_ADVICE: Final = "Install otel-oom again, or build it in a source tree: make -C bpf"


class LibbpfSource:
    """Kills out of the ring buffer that ``bpf/oom.bpf.c`` fills; see :class:`Source`."""

    name = "libbpf"

    def __init__(self, ring_bytes: int = RING_BYTES, *, want_command: bool = False) -> None:
        """Prepare; nothing touches the kernel before the context is entered.

        ``ring_bytes``, a power of two and a multiple of the page size, is how much the kernel
        keeps for us while we are busy. ``want_command`` is whether to read the victim's command
        line, which can hold secrets.
        """
        self.buffer_bytes = ring_bytes
        self._want_command = want_command
        self.hook = ""
        self.refused: dict[str, str] = {}
        """Hooks that this kernel did not allow, with its reason."""
        self.context = ""
        """The hook that tells of decisions; empty where this kernel allows none."""
        self._waiting: Event | None = None
        self._last: OomKill | None = None
        self._unreadable = 0

    def __enter__(self) -> Self:
        """Load and attach by the first hook that the kernel allows.

        Raises:
            CaptureError: not allowed, no BTF, no libbpf, no BPF object.
        """
        require_prerequisites()
        self._library = Libbpf()
        self._object = self._attach()
        self._decoder = Decoder(
            boot_id=clock.boot_id(),
            source=self.name,
            hook=self.hook,
            names=Symbols(self._object).names,
            context=self.context,
            gfp_flags=GfpNames().flags,
        )
        self._ring = RingBuffer(self._object.map_fd("oom_ring"), self.buffer_bytes)
        self._counters_fd = self._object.map_fd("oom_counters")
        self._log = None if self.context else self._open_log()
        return self

    def _open_log(self) -> KernelLogContext | None:
        """What tells of decisions where no hook does; a kill is told without them as well."""
        # 1 MB, which hosts that have a hook do without.
        from otel_oom.capture.kmsg_context import KernelLogContext  # noqa: PLC0415

        try:
            log = KernelLogContext().__enter__()
        except CaptureError as error:
            self.refused[KernelLogContext.hook] = str(error)
            return None
        self.context = log.hook
        return log

    def __exit__(self, *_: object) -> None:
        """Detach and unload."""
        if self._log:
            self._log.__exit__()
        self._ring.close()
        self._object.close()

    def _attach(self) -> BpfObject:
        """Try the best way first, and give up only what this kernel refuses of it."""
        codes = set()
        marks, contexts = list(MARKS), list(CONTEXTS)
        while marks:
            mark, context = marks[0], contexts[0]
            try:
                opened = self._load(mark, context)
            except LibbpfError as error:
                of_mark = not context or any(program in str(error) for program in MARKS[mark])
                codes.add(error.code)
                self.refused[mark if of_mark else context] = str(error)
                (marks if of_mark else contexts).pop(0)
            else:
                self.hook, self.context = mark, context
                return opened
        if codes == {errno.EPERM}:
            raise CaptureError(
                "The kernel lets this process load no BPF programs, although it has the "
                "capabilities. It is in a container without privileges, a user namespace, or "
                "below a seccomp filter: run it on the host, or in a privileged container."
            )
        reasons = "\n".join(f"{hook}: {reason}" for hook, reason in self.refused.items())
        raise CaptureError(
            "The kernel refused every hook of the OOM killer. Please report it with its reasons:\n"
            + reasons
        )

    def _load(self, mark: str, context: str) -> BpfObject:
        programs = (*CONTEXTS[context], *MARKS[mark])
        opened = self._open()
        try:
            for program in _ALTERNATIVES.difference(programs):
                opened.skip(program)
            opened.resize("oom_ring", self.buffer_bytes)
            wanted = int(self._want_command)
            opened.set_constants(struct.pack("=QQ", os.sysconf("SC_PAGE_SIZE"), wanted))
            opened.load()
            for program in (*_ENDS, *programs):
                opened.attach(program)
            if not _mark_has_task(opened):
                self._attach_signal(opened)
        except LibbpfError:
            opened.close()
            raise
        return opened

    def _attach_signal(self, opened: BpfObject) -> None:
        """See the victim before a mark that is a number; refused, that costs its details alone."""
        try:
            opened.attach(_SIGNAL.rpartition("/")[2])
        except LibbpfError as error:
            self.refused[_SIGNAL] = str(error)

    def _open(self) -> BpfObject:
        try:
            return BpfObject(self._library, OBJECT)
        except LibbpfError as error:
            raise CaptureError(
                f"The BPF object {OBJECT} can't be used. {_OBJECT_ADVICE}\n{error}"
            ) from error

    def fileno(self) -> int:
        """A descriptor that is readable when kills wait."""
        return self._ring.fileno()

    def buffered(self) -> int:
        """How many bytes the kernel's buffer holds for us now."""
        return self._ring.held()

    def drain(self, handler: Handler) -> int:
        """Hand over all events that wait; see :meth:`Source.drain`.

        A record leaves the kernel's buffer when ``handler`` has returned; when it raises, the event
        comes first at the next call.

        Raises:
            Exception: whatever ``handler`` raised.
        """
        self._offset_ns = clock.boot_to_unix_offset_ns()
        taken = 0
        try:
            for record in self._ring.records():
                # What was handed over in vain has been decoded, which is done once in order.
                self._waiting = self._waiting or self._event(record)
                if self._waiting:
                    handler(self._waiting)
                    self._waiting = None
                    taken += 1
        except RingError as error:
            self._unreadable += 1
            _LOG.error("What waited in the kernel's buffer is lost: %s", error)
        return taken

    def _event(self, record: bytes) -> Event | None:
        try:
            event = self._decoder.decode(record, self._offset_ns)
        except WireError as error:
            self._unreadable += 1
            _LOG.error("A record of the kernel side cannot be read and is lost: %s", error)
            return None
        if self._log and isinstance(event, OomKill):
            return self._decided(event, self._log)
        return event

    def _decided(self, kill: OomKill, log: KernelLogContext) -> OomKill:
        """``kill`` with what the kernel's log has of its decision, or that it was killed along."""
        last, victim = self._last, kill.victim
        if kill.incident and last and kill.incident in {last.uid, last.incident}:
            decision = last.decision
        else:
            try:
                decision = log.decision_of(victim.tid or victim.tgid, victim.tgid, kill.boottime_ns)
            except Exception:  # noqa: BLE001  whatever it was, the kill comes first
                _LOG.exception("Nothing could be read of the decision of an OOM kill")
                decision = None
        self._last = replace(kill, decision=decision)
        return self._last

    def loss(self) -> Loss:
        """What the ring buffer had no room for, over all CPUs."""
        size = len(bytes(Counters()))
        values = per_cpu_values(self._library, self._counters_fd, size)
        counters = [Counters.from_buffer_copy(value) for value in values]
        return Loss(
            victims=sum(counter.lost_victims for counter in counters),
            exits=sum(counter.lost_exits for counter in counters),
            unreadable=self._unreadable,
        )


def _mark_has_task(opened: BpfObject) -> bool:
    """Whether the mark passes the victim; on older kernels it is a number, and a signal before it.

    That signal is one of many on the host, so that nobody looks at them without need.
    """
    try:
        return opened.run("mark_has_task", ctypes.c_uint64(0)) == 1
    except LibbpfError:
        return False


def require_prerequisites() -> None:
    """See that what loading needs is there, before libbpf says it in its own words.

    Raises:
        CaptureError: the first thing that is missing, and how to get it.
    """
    if not OBJECT.exists():
        raise CaptureError(
            f"The BPF object {OBJECT.name} is not in this installation. {_OBJECT_ADVICE}"
        )
    if not VMLINUX_BTF.exists():
        raise CaptureError(
            f"This kernel has no BTF ({VMLINUX_BTF} is missing), which BPF programs need to find "
            "their way in it. Use a kernel built with CONFIG_DEBUG_INFO_BTF=y; those of Debian 11, "
            "Ubuntu 20.10, RHEL 8.2 and later have it."
        )
    if not _may_load_bpf():
        raise CaptureError(
            "This process may not load BPF programs. Run it as root (sudo), or give it the "
            "capabilities CAP_BPF and CAP_PERFMON (systemd: AmbientCapabilities=)."
        )
    libbpf.load()


_CAP_SYS_ADMIN: Final = 21
_CAP_PERFMON: Final = 38
_CAP_BPF: Final = 39


def _may_load_bpf() -> bool:
    """Whether this process has CAP_SYS_ADMIN, or CAP_BPF and CAP_PERFMON, in effect."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            both = 1 << _CAP_PERFMON | 1 << _CAP_BPF
            return bool(effective >> _CAP_SYS_ADMIN & 1) or effective & both == both
    return False
