"""Checks of the sources: each is really used for a moment."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.capture.bpf.libbpf import Libbpf
from otel_oom.capture.bpf.source import LibbpfSource, require_prerequisites
from otel_oom.capture.kmsg.open_log import open_kernel_log
from otel_oom.capture.source import VMLINUX_BTF, CaptureError, Source
from otel_oom.capture.userspace.daemons import format_names, installed_daemons
from otel_oom.capture.userspace.hidden_sources import list_hidden_sources
from otel_oom.commands.doctor import FAIL, OK, WARN, Check

_LOCKDOWN: Final = Path("/sys/kernel/security/lockdown")
_FALLBACK: Final = (
    "Until then `--source auto` reads kills from the kernel log. It lacks points, capacity, the "
    "victim's swap, the trigger's cgroup and the user stack. If the victim is gone before its line "
    "is read, ids, start, executable and exit are missing too."
)


def check_sources() -> Iterator[Check]:
    """Check the sources; it is no failure if another one can be used."""
    log = _probe("kernel log", _open_kernel_log)
    hook, bcc = _probe("hook", _attach), _probe("BCC", _compile_and_attach)
    compiled = bcc.state == OK and not VMLINUX_BTF.exists()
    if log.state == OK and hook.state == FAIL and not compiled:
        hook = replace(hook, advice=f"{hook.advice}\n{_FALLBACK}")
    libbpf = _probe("libbpf", lambda: Libbpf().version)
    needed = log.state == FAIL and not compiled
    for check in (_btf(), libbpf, _lockdown(), hook, bcc):
        yield check if needed else check.downgrade()
    yield log if hook.state == FAIL and not compiled else log.downgrade()
    yield from _selected(hook, log, compiled=compiled)
    yield from _userspace_daemons()


def _selected(hook: Check, log: Check, *, compiled: bool) -> Iterator[Check]:
    """Yield the choice of `--source auto` and its reason; nothing if no source works."""
    if hook.state == OK:
        yield Check("source", OK, "libbpf, the best source, allowed by this host")
    elif compiled:
        yield Check("source", OK, f"bcc, because libbpf is unavailable: {hook.detail}")
    elif log.state == OK:
        yield Check("source", OK, f"kmsg, because libbpf is unavailable: {hook.detail}")


def _userspace_daemons() -> Iterator[Check]:
    name = "userspace OOM daemons"
    units, hidden = installed_daemons(), list_hidden_sources()
    for source in hidden:
        detail = f"not captured: {source.kills}, without {source.log}"
        yield Check(name, WARN if source.certain else OK, detail, f"{source.advice}.")
    if not units and not hidden:
        yield Check(name, OK, "none: no systemd-oomd, earlyoom, oomd or nohang is installed")
    daemons = format_names(units)
    if units and shutil.which("journalctl"):
        yield Check(name, OK, f"kills of {daemons} are read from systemd's journal")
    elif units:
        advice = "They log to systemd's journal only: install journalctl, which is part of systemd."
        yield Check(name, WARN, f"kills of {daemons} are not captured", advice)


def _probe(name: str, probe: Callable[[], str]) -> Check:
    try:
        return Check(name, OK, probe())
    except CaptureError as error:
        detail, _, advice = str(error).partition(". ")
        return Check(name, FAIL, detail, advice)


def _open_kernel_log() -> str:
    reader = open_kernel_log()
    reader.close()
    return reader.source


def _btf() -> Check:
    if VMLINUX_BTF.exists():
        return Check("BTF", OK, str(VMLINUX_BTF))
    advice = "Use a kernel built with CONFIG_DEBUG_INFO_BTF=y, or BCC: see below."
    return Check("BTF", FAIL, f"{VMLINUX_BTF} is missing", advice)


def _lockdown() -> Check:
    try:
        modes = _LOCKDOWN.read_text(encoding="ascii").split()
    except OSError:
        return Check("lockdown", OK, "not in this kernel, or securityfs is not mounted")
    mode = next((word.strip("[]") for word in modes if word.startswith("[")), "unknown")
    if mode == "confidentiality":
        advice = "BPF must not read kernel memory in this mode; boot with lockdown=integrity."
        return Check("lockdown", FAIL, mode, advice)
    return Check("lockdown", OK, mode)


def _attach() -> str:
    """Load and attach for a moment; nothing else proves that it works."""
    require_prerequisites()
    with LibbpfSource() as source:
        unavailable = "; ".join(
            f"{hook} is unavailable: {reason.splitlines()[0]}"
            for hook, reason in source.unavailable.items()
        )
        return f"{_hooks(source)} ({unavailable or 'the best hooks, allowed by the kernel'})"


def _compile_and_attach() -> str:
    if VMLINUX_BTF.exists():
        return "not needed: this kernel has BTF"
    from otel_oom.capture.bcc.child import installed_bcc  # noqa: PLC0415  rarely needed
    from otel_oom.capture.bcc.source import BccSource  # noqa: PLC0415  likewise

    with BccSource() as source:
        return f"{_hooks(source)} ({installed_bcc()})"


def _hooks(source: Source) -> str:
    return " and ".join(filter(None, (source.hook, source.decision_source)))
