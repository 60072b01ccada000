"""``otel-oom doctor``: what this host allows, who would be killed, if the endpoint answers.

Every finding that is not well says what to do.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from otel_oom import __version__, outlook
from otel_oom.capture.bpf import LibbpfSource, require_prerequisites
from otel_oom.capture.kmsg_reader import DEVICE, KmsgReader
from otel_oom.capture.libbpf import Libbpf
from otel_oom.capture.source import PIN_DIR, VMLINUX_BTF, CaptureError
from otel_oom.export import settings
from otel_oom.export.answer import Verdict
from otel_oom.export.courier import connect
from otel_oom.export.settings import Endpoint, SettingsError
from otel_oom.health import settings as health
from otel_oom.killers.installed import installed
from otel_oom.layout import Layout
from otel_oom.terminal import Terminal
from otel_oom.vm_settings import meanings
from otel_oom.witness import MemcgFiles, host

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"

_BPFFS: Final = Path("/sys/fs/bpf")
_LOCKDOWN: Final = Path("/sys/kernel/security/lockdown")
_ENDPOINT_S: Final = 5.0
_LONG_TIMEOUT_S: Final = 600.0
_BY_LOG: Final = (
    "Until then `--source auto` takes kills from the kernel's log: without points, capacity, the "
    "victim's swap, the trigger's cgroup and the user stack, and, of a process that is gone when "
    "its line is read, without ids, start, executable and end."
)
_MARKS: Final = {OK: "✓", WARN: "!", FAIL: "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``advice`` is empty when all is well."""

    name: str
    state: str
    detail: str
    advice: str = ""


def doctor(*, as_json: bool) -> int:
    """Look at everything and print it; 0 when kills can be captured and sent, else 1."""
    findings = list(_findings())
    failed = any(finding.state == FAIL for finding in findings)
    seen = outlook.look()
    if as_json:
        report = {
            "version": __version__,
            "ok": not failed,
            "findings": [*map(asdict, findings)],
            "outlook": seen.to_json(),
        }
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        for finding in findings:
            sys.stdout.write(f"{_MARKS[finding.state]} {finding.name}: {finding.detail}\n")
            if finding.advice:
                advice = finding.advice.replace("\n", "\n      ")
                sys.stdout.write(f"    → {advice}\n")
        for line in outlook.lines(seen, Layout(Terminal.of(sys.stdout))):
            sys.stdout.write(line + "\n")
    return int(failed)


def _findings() -> Iterator[Finding]:
    uname = os.uname()
    yield Finding("kernel", OK, f"{uname.sysname} {uname.release} {uname.machine}")
    yield from _sources()
    yield _bpffs()
    yield _pins()
    yield _memcg()
    yield from _oom_settings()
    yield from _endpoints()
    yield from _misspelt()


def _sources() -> Iterator[Finding]:
    """What kills can be captured by; what another one stands in for is no failure."""
    log, hook, bcc = _log(), _hook(), _bcc()
    compiled = bcc.state == OK and not VMLINUX_BTF.exists()
    if log.state == OK and hook.state == FAIL and not compiled:
        hook = replace(hook, advice=f"{hook.advice}\n{_BY_LOG}")
    needed = log.state == FAIL and not compiled
    for finding in (_btf(), _libbpf(), _lockdown(), hook, bcc):
        yield finding if needed else _milder(finding)
    yield log if hook.state == FAIL and not compiled else _milder(log)
    yield from _taken(hook, log, compiled=compiled)
    yield _killers()


def _taken(hook: Finding, log: Finding, *, compiled: bool) -> Iterator[Finding]:
    """What `--source auto` takes, and why; what can take nothing has said so."""
    if hook.state == OK:
        yield Finding("source", OK, "libbpf, the best there is, and this host allows it")
    elif compiled:
        yield Finding("source", OK, f"bcc, for libbpf is refused: {hook.detail}")
    elif log.state == OK:
        yield Finding("source", OK, f"kmsg, for libbpf is refused: {hook.detail}")


def _killers() -> Finding:
    """Who else kills here, and whether that can be known."""
    name = "killers"
    units = installed()
    if not units:
        return Finding(name, OK, "the kernel alone: no systemd-oomd, earlyoom or oomd is here")
    others = ", ".join(unit.removesuffix(".service") for unit in units)
    if shutil.which("journalctl"):
        return Finding(name, OK, f"the kernel, and {others} by systemd's journal")
    advice = "They tell it to systemd's journal alone: install journalctl, which is in systemd."
    return Finding(name, WARN, f"what {others} kills is not told", advice)


def _milder(finding: Finding) -> Finding:
    return replace(finding, state=WARN) if finding.state == FAIL else finding


def _log() -> Finding:
    try:
        KmsgReader().close()
    except CaptureError as error:
        return _failed("kernel log", error)
    return Finding("kernel log", OK, str(DEVICE))


def _btf() -> Finding:
    if VMLINUX_BTF.exists():
        return Finding("BTF", OK, str(VMLINUX_BTF))
    advice = "Use a kernel built with CONFIG_DEBUG_INFO_BTF=y, or BCC: see below."
    return Finding("BTF", FAIL, f"{VMLINUX_BTF} is missing", advice)


def _libbpf() -> Finding:
    try:
        return Finding("libbpf", OK, Libbpf().version)
    except CaptureError as error:
        return _failed("libbpf", error)


def _lockdown() -> Finding:
    try:
        modes = _LOCKDOWN.read_text(encoding="ascii").split()
    except OSError:
        return Finding("lockdown", OK, "not in this kernel, or securityfs is not mounted")
    mode = next((word.strip("[]") for word in modes if word.startswith("[")), "unknown")
    if mode == "confidentiality":
        advice = "BPF may not read the kernel in this mode; boot with lockdown=integrity or less."
        return Finding("lockdown", FAIL, mode, advice)
    return Finding("lockdown", OK, mode)


def _hook() -> Finding:
    """Really load and attach, for a moment: the only answer that holds."""
    source = LibbpfSource()
    try:
        require_prerequisites()
        with source:
            refused = "; ".join(
                f"{hook} was refused: {why.splitlines()[0]}" for hook, why in source.refused.items()
            )
            hooks = " and ".join(filter(None, (source.hook, source.context)))
            detail = f"{hooks} ({refused or 'the best there is, and the kernel allows it'})"
            return Finding("hook", OK, detail)
    except CaptureError as error:
        return _failed("hook", error)


def _bcc() -> Finding:
    """Likewise compile and attach, where libbpf can't: elsewhere it is not needed."""
    if VMLINUX_BTF.exists():
        return Finding("BCC", OK, "not needed: this kernel has BTF")
    from otel_oom.capture.bcc import BccSource  # noqa: PLC0415  rarely needed
    from otel_oom.capture.bcc_process import installed  # noqa: PLC0415  as above

    try:
        with BccSource() as source:
            hooks = " and ".join(filter(None, (source.hook, source.context)))
            return Finding("BCC", OK, f"{hooks} ({installed()})")
    except CaptureError as error:
        return _failed("BCC", error)


def _failed(name: str, error: CaptureError) -> Finding:
    """A finding out of an error whose first sentence is what is wrong, and the rest the way out."""
    detail, _, advice = str(error).partition(". ")
    return Finding(name, FAIL, detail, advice)


def _bpffs() -> Finding:
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    # Of several mounts at one place, the last is the one that is seen.
    types = [fields[2] for fields in map(str.split, mounts) if fields[1] == str(_BPFFS)]
    if types[-1:] == ["bpf"]:
        return Finding("bpffs", OK, str(_BPFFS))
    advice = f"Capture works without it; to pin, mount it: mount -t bpf bpf {_BPFFS}"
    return Finding("bpffs", WARN, f"not mounted at {_BPFFS}", advice)


def _pins() -> Finding:
    """What goes on in the kernel, and whether there is an agent to take it."""
    try:
        folder = PIN_DIR.stat()
        pinned = any(PIN_DIR.iterdir())
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except FileNotFoundError:
        pinned = False
    except OSError as error:
        return Finding("pins", OK, f"{PIN_DIR}: {error.strerror}")
    if not pinned:
        return Finding("pins", OK, f"none in {PIN_DIR}: kills are captured while an agent runs")
    device = folder.st_dev
    held = f" {os.major(device):02x}:{os.minor(device):02x}:{folder.st_ino} "
    if held in locks:
        return Finding("pins", OK, f"in {PIN_DIR}, for the agent that runs and the next one")
    advice = (
        "The kernel records kills, and no agent takes them. Start it: otel-oom run; or end that: "
        "otel-oom unpin"
    )
    return Finding("pins", WARN, f"in {PIN_DIR}, without an agent", advice)


def _memcg() -> Finding:
    name, loss = "memory cgroups", "Limits and usage of cgroups will be missing"
    files = MemcgFiles.find()
    if files is None:
        advice = f"{loss}: mount -t cgroup2 none /sys/fs/cgroup"
        return Finding(name, WARN, "none mounted here", advice)
    where = f"v{1 if files.v1 else 2} at {files.mount}"
    if _has_memory_controller(files):
        return Finding(name, OK, where)
    advice = (
        f"{loss}. See that nothing is mounted over it, and that the memory controller is on "
        "(boot with cgroup_enable=memory)."
    )
    return Finding(name, WARN, f"{where} has no memory controller", advice)


def _has_memory_controller(files: MemcgFiles) -> bool:
    """Whether it is there in fact: another mount may lie over this one."""
    if files.v1:
        return (files.mount / "memory.limit_in_bytes").exists()
    try:
        controllers = (files.mount / "cgroup.controllers").read_text(encoding="ascii")
    except OSError:
        return False
    return "memory" in controllers.split()


def _oom_settings() -> Iterator[Finding]:
    for one in meanings(host.settings(), host.host_numbers().memory):
        state = WARN if one.advice else OK
        yield Finding(one.name, state, f"{one.value}: {one.sentence}", one.advice)


def _endpoints() -> Iterator[Finding]:
    try:
        read = settings.read(os.environ)
    except SettingsError as error:
        # From the right: the value itself, which is shown, may hold a colon.
        detail, _, advice = str(error).rpartition(": ")
        yield Finding("settings", FAIL, detail, advice[:1].upper() + advice[1:])
        return
    if read.disabled:
        advice = "Kills are kept on disk and not sent. Unset it to send."
        yield Finding("settings", WARN, "OTEL_SDK_DISABLED is true", advice)
        return
    for endpoint in read.endpoints:
        yield _endpoint(endpoint)
    yield from _metrics()


def _metrics() -> Iterator[Finding]:
    """Metrics are the agent's own: what is wrong with them is in no kill's way."""
    name, off = "metrics endpoint", "OTEL_METRICS_EXPORTER=none sends no metrics"
    try:
        read = health.read(os.environ)
    except SettingsError as error:
        yield Finding(name, WARN, str(error), f"No metrics are sent. {off}, and says nothing.")
        return
    if read is None:
        yield Finding(name, OK, "none are sent, as OTEL_METRICS_EXPORTER says")
        return
    found = _endpoint(read.endpoint)
    if found.state == FAIL:
        advice = f"Kills are not concerned. {off}."
        found = replace(found, state=WARN, advice=advice)
    yield found


def _endpoint(endpoint: Endpoint) -> Finding:
    """Send an empty request, which every OTLP server takes."""
    name = f"{endpoint.signal} endpoint"
    where = f"{endpoint.shown} ({endpoint.protocol})"
    try:
        transport = connect(replace(endpoint, timeout_s=min(endpoint.timeout_s, _ENDPOINT_S)))
    except (OSError, ValueError) as error:
        return Finding(name, FAIL, f"{where}: {error}", "Check the certificate and key files.")
    answer = transport.send(b"")
    transport.close()
    if answer.verdict is Verdict.TAKEN and endpoint.timeout_s > _LONG_TIMEOUT_S:
        advice = "OTEL_EXPORTER_OTLP_TIMEOUT is in seconds, as in OpenTelemetry's Python exporters."
        return Finding(
            name, WARN, f"{where} answers, with {endpoint.timeout_s:g} s to do so", advice
        )
    if answer.verdict is Verdict.TAKEN:
        return Finding(name, OK, f"{where} answers")
    advice = (
        "Is it up, and is OTEL_EXPORTER_OTLP_ENDPOINT right? What is captured waits on disk."
        if answer.verdict is Verdict.LATER
        else "It answers, and refuses: check its address, protocol and credentials."
    )
    return Finding(name, FAIL, f"{where}: {answer.reason}", advice)


def _misspelt() -> Iterator[Finding]:
    for name in settings.unknown_variables(os.environ):
        near = get_close_matches(name, settings.known_variables(), n=1)
        advice = f"Did you mean {near[0]}?" if near else "Unset it."
        yield Finding("settings", WARN, f"{name} is not a variable that is read", advice)
