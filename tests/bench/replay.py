"""How fast a log of the past is read, beside grep on the same file."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.bench.figure import Figure
from tests.testlib.samples.replay_logs import (
    KILL,
    format_export,
    format_json,
    journal_entries,
    syslog_lines,
)

MB: Final = 300
KILLS: Final = 10
"""Each with its report: a log of months has no more."""
REPLAY: Final = (sys.executable, "-m", "otel_oom", "replay", "--dry-run")
_TIMES: Final = 3
_SIGN: Final = "Killed process"

_USUAL: Final = (
    "systemd[1]: Started Session 1234 of user root.",
    "sshd[4711]: Accepted publickey for root from 10.0.0.1 port 51234 ssh2: RSA SHA256:abcdefghijk",
    "kernel: [12345.678901] eth0: link becomes ready",
    "CRON[1234]: (root) CMD (cd / && run-parts --report /etc/cron.hourly)",
    'kubelet[99]: "operationExecutor.VerifyControllerAttachedVolume started for volume room"',
    'kernel: [12345.678902] audit: type=1400 apparmor="ALLOWED" operation="open" comm="cupsd"',
)


def replays() -> Iterator[Figure]:
    """The rate by processor time of the whole command, its start included, and its memory."""
    usual = [f"Nov 14 20:{at % 60:02}:{at % 59:02} db1 {_USUAL[at % 6]}" for at in range(20_000)]
    journal = journal_entries([line.partition(": ")[2] for line in usual], _TRANSPORT="syslog")
    # Not /tmp, which may be memory: what is measured is a file.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        log = Path(folder) / "syslog"
        _fill(log, _text(usual), _text(syslog_lines(KILL)))
        rate, peak = _measured(log, REPLAY)
        yield Figure(f"replay of a syslog of {MB} MB with {KILLS} kills", rate, "MB/s", 100)
        yield Figure("RSS at its peak", peak, "MB")
        rate, _ = _measured(log, ("grep", "-c", _SIGN))
        yield Figure("grep on the same file", rate, "MB/s")
        _fill(log, _text(format_json(journal)), _text(format_json(journal_entries(KILL))))
        rate, _ = _measured(log, REPLAY)
        yield Figure("replay of as large a journal as JSON", rate, "MB/s", 100)
        _fill(log, format_export(journal), format_export(journal_entries(KILL)))
        rate, _ = _measured(log, REPLAY)
        yield Figure("replay of as large a journal's export", rate, "MB/s", 100)


def _text(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _fill(log: Path, usual: bytes, kills: bytes) -> None:
    """As often the usual as makes the file so large, and the kills spread over it."""
    times = MB * 10**6 // len(usual)
    with log.open("wb") as file:
        for at in range(times):
            file.write(usual)
            if at % max(1, times // KILLS) == 0:
                file.write(kills)


def _measured(log: Path, command: Sequence[str]) -> tuple[float, float]:
    """The best rate of a few runs, in 10^6 bytes a second, and the most memory, in 10^6 bytes.

    By processor time: the file is in memory then, and other programs may run beside.
    """
    used = [_used([*command, str(log)]) for _ in range(_TIMES)]
    took_s = min(one.ru_utime + one.ru_stime for one in used)
    return log.stat().st_size / took_s / 1e6, max(one.ru_maxrss for one in used) * 1024 / 1e6


def _used(command: Sequence[str]) -> resource.struct_rusage:
    # Not to /dev/null, where grep stops at the first line that it finds.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return used
