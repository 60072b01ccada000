"""The speed of replay, beside grep on the same file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.bench.measurement import Measurement
from tests.testlib.samples.replay_logs import (
    KILL,
    format_export,
    format_json,
    journal_entries,
    syslog_lines,
)

MB: Final = 300
KILLS: Final = 10
"""Each with its report; a log of months has no more."""
REPLAY: Final = (sys.executable, "-m", "otel_oom", "replay", "--dry-run")
_TIMES: Final = 3
_LAUNCHER: Final = """
import os, sys
output = [(os.POSIX_SPAWN_DUP2, 2, 1)]
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=output)
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""
"""A small process that starts the command.

ru_maxrss counts the memory that a process had before its execve(2): that of the bench itself, if
this started the command.
"""
_PATTERN: Final = "Killed process"

_USUAL: Final = (
    "systemd[1]: Started Session 1234 of user root.",
    "sshd[4711]: Accepted publickey for root from 10.0.0.1 port 51234 ssh2: RSA SHA256:abcdefghijk",
    "kernel: [12345.678901] eth0: link becomes ready",
    "CRON[1234]: (root) CMD (cd / && run-parts --report /etc/cron.hourly)",
    'kubelet[99]: "operationExecutor.VerifyControllerAttachedVolume started for volume room"',
    'kernel: [12345.678902] audit: type=1400 apparmor="ALLOWED" operation="open" comm="cupsd"',
)


def measure_replay() -> Iterator[Measurement]:
    """Measure the rate by CPU time of the whole command with its start, and its memory."""
    usual = [
        f"Nov 14 20:{index % 60:02}:{index % 59:02} db1 {_USUAL[index % 6]}"
        for index in range(20_000)
    ]
    journal = journal_entries([line.partition(": ")[2] for line in usual], _TRANSPORT="syslog")
    # Not /tmp, which may be in memory instead of on a disk.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        log = Path(folder) / "syslog"
        _fill(log, _text(usual), _text(syslog_lines(KILL)))
        rate, peak = _measure(log, REPLAY)
        yield Measurement(f"replay of a syslog of {MB} MB with {KILLS} kills", rate, "MB/s", 100)
        yield Measurement("peak RSS of replay", peak, "MB")
        rate, _ = _measure(log, ("grep", "-c", _PATTERN))
        yield Measurement("grep on the same file", rate, "MB/s")
        _fill(log, _text(format_json(journal)), _text(format_json(journal_entries(KILL))))
        rate, _ = _measure(log, REPLAY)
        yield Measurement("replay of as large a journal as JSON", rate, "MB/s", 100)
        _fill(log, format_export(journal), format_export(journal_entries(KILL)))
        rate, _ = _measure(log, REPLAY)
        yield Measurement("replay of as large a journal's export", rate, "MB/s", 100)


def _text(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _fill(log: Path, usual: bytes, kills: bytes) -> None:
    """Fill a file of MB megabytes with usual lines, and spread the kills over it."""
    times = MB * 10**6 // len(usual)
    with log.open("wb") as file:
        for index in range(times):
            file.write(usual)
            if index % max(1, times // KILLS) == 0:
                file.write(kills)


def _measure(log: Path, command: Sequence[str]) -> tuple[float, float]:
    """Return the best rate in 10^6 bytes a second, and the largest RSS in 10^6 bytes.

    By CPU time, since the file is cached and other programs may run as well.
    """
    runs = [_run([*command, str(log)]) for _ in range(_TIMES)]
    took_s = min(cpu_s for cpu_s, _ in runs)
    return log.stat().st_size / took_s / 1e6, max(peak for _, peak in runs) / 1e6


def _run(command: Sequence[str]) -> tuple[float, int]:
    """Return the CPU time in seconds and the largest RSS in bytes of a command."""
    # Not to /dev/null, with which grep stops at the first match.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            (sys.executable, "-I", "-S", "-c", _LAUNCHER, *command),
            stdout=subprocess.PIPE,
            stderr=output,
            check=True,
        )
    code, cpu_s, peak_kib = done.stdout.split()
    assert code == b"0", command
    return float(cpu_s), int(peak_kib) * 1024
