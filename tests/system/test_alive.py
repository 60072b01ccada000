"""The real agent with a log that nobody reads, and the probe that asks it."""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.testlib.agent import Agent, run_agent
from tests.testlib.command import CompletedCommand, run_otel_oom
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.root

ENVIRON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


def check_alive(agent: Agent) -> CompletedCommand:
    return run_otel_oom("doctor", "--alive", "--state-dir", agent.state_dir)


def test_a_full_pipe_as_stderr_stops_neither_a_start_nor_capture_nor_the_end(
    tmp_path: Path,
) -> None:
    """A restart by the service manager meets the pipe that the last agent has filled."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 512)
    os.set_blocking(writer, True)
    with run_agent(tmp_path, ENVIRON, stderr=writer) as agent:
        wait_until(lambda: check_alive(agent).code == 0, "an answer of the capture loop")
        assert os.get_blocking(writer)
        assert agent.stop() == 0
    for descriptor in (reader, writer):
        os.close(descriptor)


@pytest.mark.slow
def test_the_probe_fails_while_the_agent_hangs(tmp_path: Path) -> None:
    with run_agent(tmp_path, ENVIRON) as agent:
        wait_until(lambda: check_alive(agent).code == 0, "an answer of the capture loop")
        agent.process.send_signal(signal.SIGSTOP)
        hanging = check_alive(agent)
        assert (hanging.code, hanging.err) == (1, "")
        assert "has not responded for 8 s" in hanging.out
        agent.process.send_signal(signal.SIGCONT)
        assert check_alive(agent).code == 0
        agent.process.send_signal(signal.SIGKILL)
        agent.process.wait()
        assert check_alive(agent).code == 1
