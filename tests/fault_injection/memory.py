"""The agent stopped while the kernel's buffer overflows, and the agent as the victim itself."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from tests.fault_injection.storm import Death
from tests.fault_injection.trial import ENDS_S, Life, Trial
from tests.testlib.command import mount_namespace
from tests.testlib.kernel.memcg import cgroup_prefix, own_memcg
from tests.vmtest.programs import program_path

_RING_BYTES: Final = 16384
_FULL: Final = 40
"""More kills than that ring holds, and no more than the smallest kernel log does."""
_ROUNDS: Final = 5
_LOST: Final = re.compile(r"Lost events .* kills=(\d+)")

_NO_LOG: Final = (
    "mount --bind /dev/kmsg /dev/kmsg",
    # To open a device on a file system without devices is refused to everybody.
    "mount -o remount,bind,nodev /dev/kmsg",
)


def overflow(trial: Trial, *, short: bool) -> None:
    """SIGSTOP it, and kill more than its buffer holds: the kernel's log has the rest."""
    _overflow(trial, (), short=short)
    assert not trial.tally().missed


def overflow_without_log(trial: Trial, *, short: bool) -> None:
    """The same where the kernel's log can't be read: what is missed is told by its exact count."""
    refused = _overflow(trial, mount_namespace(*_NO_LOG), short=short)
    assert trial.tally().missed == refused > 0


def _overflow(trial: Trial, prefix: tuple[str, ...], *, short: bool) -> int:
    """How many kills found the buffer full, by the kernel side's own count."""
    trial.install()
    refused = 0
    runner = ("--ring-bytes", str(_RING_BYTES))
    for _ in range(1 if short else _ROUNDS):
        trial.unpin()
        with trial.agent(runner=runner, prefix=prefix) as life:
            life.process.send_signal(signal.SIGSTOP)
            trial.storm.kill(_FULL, trial.memcg)
            life.process.send_signal(signal.SIGCONT)
            life.says("Lost events")
            # It compares once more when all is stored.
            life.says("Missed kills" if prefix else "Recovered kills from the kernel log")
            time.sleep(_AGAIN_S)
            refused += int(_LOST.findall(life.log_text())[-1])
            trial.crash(life)
    trial.settle(prefix=prefix, but=refused if prefix else 0)
    return refused


_AGAIN_S: Final = 3.0


def own_victim(trial: Trial, *, short: bool) -> None:
    """Have the kernel kill the agent itself for its own cgroup's limit, with kills going on."""
    trial.install()
    with own_memcg(_AGENT_BYTES) as own, trial.raging():
        for _ in range(1 if short else _ROUNDS):
            began = time.time_ns()
            with trial.agent(prefix=cgroup_prefix(own)) as life:
                # Whatever it has asked for: the kernel shall find it first.
                Path(f"/proc/{life.process.pid}/oom_score_adj").write_text("1000", encoding="ascii")
                with subprocess.Popen([program_path("fill_cgroup"), own.procs]) as process:
                    code = _death(trial, life, began)
                    assert code == -signal.SIGKILL, life.log_text()
                    assert process.wait(ENDS_S) == -signal.SIGKILL
                trial.storm.add(Death(process.pid, began, time.time_ns()))
                trial.crashes += 1
    trial.settle()


_AGENT_BYTES: Final = 96 << 20


def _death(trial: Trial, life: Life, began: int) -> int:
    code = life.process.wait(ENDS_S)
    trial.storm.add(Death(life.process.pid, began, time.time_ns()))
    return code
