"""The code around the comparison with other programs: their output, and the table."""

from __future__ import annotations

import pytest

from tests.bench.peers import programs
from tests.bench.peers.programs import Peer
from tests.bench.peers.table import PeerResult, format_table

OURS = PeerResult("ours", "1", 0.5, 40.0, 0.1, 1000, group=3, child=True, down=10, fields="all")
OTHER = PeerResult(
    "other", "2", 0.3, 3.0, 0.1, 31, group=1, child=False, down=0, fields="pid", note="with rsyslog"
)

OUTPUTS = {
    "_OOMKILL": '21:03:39 Triggered by PID 3297 ("ntpd"), OOM kill of PID 22516 ("perl"), '
    "3850642 pages, loadavg: 0.99 0.39 0.30 3/282 22724",
    "_KILLED": "Memory cgroup out of memory: Killed process 22516 (perl) total-vm:19076kB",
    "_CADVISOR": '{"Pid":22516,"ProcessName":"perl","TimeOfDeath":"2023-11-14T21:00:00Z"}',
    "_AGENT": '{"key":"process.pid","value":{"intValue":"22516"}},{"key":"process.vpid"}',
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_pid_of_a_kill_is_found_in_a_program_s_output(name: str) -> None:
    """In any other text there is none."""
    peer = Peer("x", "1", lambda _: [], vars(programs)[name], "")
    assert peer.read_pids(f"Tracing OOM kills...\n{OUTPUTS[name]}\n") == {22516}
    assert peer.read_pids("Triggered by PID 3297, process 4711 exited") == set()


def test_the_best_of_each_column_is_bold() -> None:
    """Equal ones are both; where another program is ahead of the first one, a sentence says so."""
    table = format_table([OURS, OTHER], 1000, 3, 10)
    head, _, ours, other, _, ahead = table.splitlines()
    assert head.startswith("| program | version | RSS, MB | CPU idle, % of a core |")
    assert ours == (
        "| ours | 1 | 40.0 | **0.10** | 0.50 | **1000 of 1000** | **3 of 3** | **yes** "
        "| **10 of 10** | all |"
    )
    assert other == (
        "| other (with rsyslog) | 2 | **3.0** | **0.10** | **0.30** | 31 of 1000 | 1 of 3 | no "
        "| 0 of 10 | pid |"
    )
    assert ahead == "Another program is ahead in: RSS, MB, start to capture, s."


def test_a_program_that_reported_nothing_is_ahead_in_nothing() -> None:
    silent = PeerResult("silent", "3", None, 90.0, 9.0, 0, group=0, child=False, down=0, fields="")
    table = format_table([OURS, silent], 1000, 3, 10)
    assert "| none |" in table
    assert table.endswith("Another program is ahead in: nothing.")
