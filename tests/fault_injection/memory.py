"""A stopped agent whose ring buffer overflows, and the agent itself as the victim."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from tests.fault_injection.storm import Death
from tests.fault_injection.trial import EXIT_S, RunningAgent, Trial
from tests.testlib.command import mount_namespace
from tests.testlib.kernel.memcg import cgroup_prefix, own_memcg
from tests.testlib.require import require
from tests.vmtest.programs import program_path

_RING_BYTES: Final = 16384
_KILLS: Final = 40
"""More kills than that ring holds, and no more than the smallest kernel log."""
_ROUNDS: Final = 5
_LOST: Final = re.compile(r"Lost events .* kills=(\d+)")

_NO_LOG: Final = (
    "mount --bind /dev/kmsg /dev/kmsg",
    # On a file system mounted nodev nobody can open a device.
    "mount -o remount,bind,nodev /dev/kmsg",
)
_NO_SYSLOG: Final = ("setpriv", "--bounding-set=-syslog", "--inh-caps=-syslog", "--")


def overflow_buffer(trial: Trial, *, short: bool) -> None:
    """Stop the agent by SIGSTOP during more kills than its buffer holds.

    The kernel log has the rest.
    """
    _overflow(trial, (), short=short)
    assert not trial.tally().missed


def overflow_buffer_without_log(trial: Trial, *, short: bool) -> None:
    """The same without a readable kernel log: the missed kills are counted exactly."""
    restricted = Path("/proc/sys/kernel/dmesg_restrict").read_text(encoding="ascii").strip()
    require(restricted == "1", "everybody may read the log of this kernel")
    dropped = _overflow(trial, (*mount_namespace(*_NO_LOG), *_NO_SYSLOG), short=short)
    assert trial.tally().missed == dropped > 0


def _overflow(trial: Trial, prefix: tuple[str, ...], *, short: bool) -> int:
    """Return the number of kills that found the buffer full, by the kernel side's own count."""
    trial.install()
    dropped = 0
    runner = ("--ring-bytes", str(_RING_BYTES))
    for _ in range(1 if short else _ROUNDS):
        trial.unpin()
        with trial.run_agent(runner=runner, prefix=prefix) as agent:
            agent.process.send_signal(signal.SIGSTOP)
            trial.storm.kill(_KILLS, trial.memcg)
            agent.process.send_signal(signal.SIGCONT)
            agent.wait_for_log("Lost events")
            # It reconciles once more when all kills are stored.
            agent.wait_for_log("Missed kills" if prefix else "Recovered kills from the kernel log")
            time.sleep(_RECONCILED_S)
            dropped += int(_LOST.findall(agent.log_text())[-1])
            trial.crash(agent)
    trial.deliver_rest(prefix=prefix, missing=dropped if prefix else 0)
    return dropped


_RECONCILED_S: Final = 3.0


def kill_agent_out_of_memory(trial: Trial, *, short: bool) -> None:
    """Let the kernel kill the agent for the limit of its own cgroup, while kills go on."""
    trial.install()
    with own_memcg(_AGENT_BYTES) as own, trial.kill_continuously():
        for _ in range(1 if short else _ROUNDS):
            began = time.time_ns()
            with trial.run_agent(prefix=cgroup_prefix(own)) as agent:
                # The kernel must choose the agent, whatever the agent has set.
                Path(f"/proc/{agent.process.pid}/oom_score_adj").write_text(
                    "1000", encoding="ascii"
                )
                with subprocess.Popen([program_path("fill_cgroup"), own.procs]) as process:
                    code = _record_death(trial, agent, began)
                    assert code == -signal.SIGKILL, agent.log_text()
                    assert process.wait(EXIT_S) == -signal.SIGKILL
                trial.storm.add(Death(process.pid, began, time.time_ns()))
                trial.crashes += 1
    trial.deliver_rest()


_AGENT_BYTES: Final = 96 << 20


def _record_death(trial: Trial, agent: RunningAgent, began: int) -> int:
    code = agent.process.wait(EXIT_S)
    trial.storm.add(Death(agent.process.pid, began, time.time_ns()))
    return code
