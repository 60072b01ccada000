"""What kills can be captured by here: each source is asked by really using it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from otel_oom.capture.bpf.libbpf import Libbpf
from otel_oom.capture.bpf.source import LibbpfSource, require_prerequisites
from otel_oom.capture.kmsg.reader import DEVICE, KmsgReader
from otel_oom.capture.source import VMLINUX_BTF, CaptureError
from otel_oom.capture.userspace.daemons import installed_daemons
from otel_oom.commands.doctor.check import FAIL, OK, WARN, Check, failed, milder

_LOCKDOWN: Final = Path("/sys/kernel/security/lockdown")
_BY_LOG: Final = (
    "Until then `--source auto` takes kills from the kernel's log: without points, capacity, the "
    "victim's swap, the trigger's cgroup and the user stack, and, of a process that is gone when "
    "its line is read, without ids, start, executable and end."
)


def sources() -> Iterator[Check]:
    """What kills can be captured by; what another one stands in for is no failure."""
    log, hook, bcc = _log(), _hook(), _bcc()
    compiled = bcc.state == OK and not VMLINUX_BTF.exists()
    if log.state == OK and hook.state == FAIL and not compiled:
        hook = replace(hook, advice=f"{hook.advice}\n{_BY_LOG}")
    needed = log.state == FAIL and not compiled
    for finding in (_btf(), _libbpf(), _lockdown(), hook, bcc):
        yield finding if needed else milder(finding)
    yield log if hook.state == FAIL and not compiled else milder(log)
    yield from _taken(hook, log, compiled=compiled)
    yield _killers()


def _taken(hook: Check, log: Check, *, compiled: bool) -> Iterator[Check]:
    """What `--source auto` takes, and why; what can take nothing has said so."""
    if hook.state == OK:
        yield Check("source", OK, "libbpf, the best there is, and this host allows it")
    elif compiled:
        yield Check("source", OK, f"bcc, for libbpf is refused: {hook.detail}")
    elif log.state == OK:
        yield Check("source", OK, f"kmsg, for libbpf is refused: {hook.detail}")


def _killers() -> Check:
    """Who else kills here, and whether that can be known."""
    name = "killers"
    units = installed_daemons()
    if not units:
        return Check(name, OK, "the kernel alone: no systemd-oomd, earlyoom or oomd is here")
    others = ", ".join(unit.removesuffix(".service") for unit in units)
    if shutil.which("journalctl"):
        return Check(name, OK, f"the kernel, and {others} by systemd's journal")
    advice = "They tell it to systemd's journal alone: install journalctl, which is in systemd."
    return Check(name, WARN, f"what {others} kills is not told", advice)


def _log() -> Check:
    try:
        KmsgReader().close()
    except CaptureError as error:
        return failed("kernel log", error)
    return Check("kernel log", OK, str(DEVICE))


def _btf() -> Check:
    if VMLINUX_BTF.exists():
        return Check("BTF", OK, str(VMLINUX_BTF))
    advice = "Use a kernel built with CONFIG_DEBUG_INFO_BTF=y, or BCC: see below."
    return Check("BTF", FAIL, f"{VMLINUX_BTF} is missing", advice)


def _libbpf() -> Check:
    try:
        return Check("libbpf", OK, Libbpf().version)
    except CaptureError as error:
        return failed("libbpf", error)


def _lockdown() -> Check:
    try:
        modes = _LOCKDOWN.read_text(encoding="ascii").split()
    except OSError:
        return Check("lockdown", OK, "not in this kernel, or securityfs is not mounted")
    mode = next((word.strip("[]") for word in modes if word.startswith("[")), "unknown")
    if mode == "confidentiality":
        advice = "BPF may not read the kernel in this mode; boot with lockdown=integrity or less."
        return Check("lockdown", FAIL, mode, advice)
    return Check("lockdown", OK, mode)


def _hook() -> Check:
    """Really load and attach, for a moment: the only answer that holds."""
    source = LibbpfSource()
    try:
        require_prerequisites()
        with source:
            refused = "; ".join(
                f"{hook} was refused: {why.splitlines()[0]}"
                for hook, why in source.unavailable.items()
            )
            hooks = " and ".join(filter(None, (source.hook, source.decision_source)))
            detail = f"{hooks} ({refused or 'the best there is, and the kernel allows it'})"
            return Check("hook", OK, detail)
    except CaptureError as error:
        return failed("hook", error)


def _bcc() -> Check:
    """Likewise compile and attach, where libbpf can't: elsewhere it is not needed."""
    if VMLINUX_BTF.exists():
        return Check("BCC", OK, "not needed: this kernel has BTF")
    from otel_oom.capture.bcc.child import installed_bcc  # noqa: PLC0415  as above
    from otel_oom.capture.bcc.source import BccSource  # noqa: PLC0415  rarely needed

    try:
        with BccSource() as source:
            hooks = " and ".join(filter(None, (source.hook, source.decision_source)))
            return Check("BCC", OK, f"{hooks} ({installed_bcc()})")
    except CaptureError as error:
        return failed("BCC", error)
