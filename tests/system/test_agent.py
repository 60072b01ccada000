"""The agent as a whole, with real kills and a backend that misbehaves."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_oom.commands.demo.receiver import Receiver, Reply
from tests.testlib.agent import AGENT_COMMAND, Agent, run_agent
from tests.testlib.kernel.kills import kill_many, kill_one
from tests.testlib.kernel.memcg import MEMCG_LIMIT
from tests.testlib.kernel.oracle import read_oom_kill_count
from tests.testlib.process import free_port
from tests.testlib.servers.backend import Backend, filter_kills
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

PROMPT_S = 6.0
DOWN_REQUESTS = 4
"""With the pauses between them, some seconds."""
"""What "promptly" may take: the agent's few seconds of grace, and a busy machine's own."""


def endpoint(receiver: Receiver) -> dict[str, str]:
    """Return the environment that sends to ``receiver``."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}


def check_complete(backend: Backend, pids: list[int]) -> None:
    """Check that each kill arrived once as a log and once as a span, which belong together."""
    logs, spans = filter_kills(backend.logs, pids), filter_kills(backend.spans, pids)
    for received in (logs, spans):
        assert sorted(r.attributes["process.pid"] for r in received) == sorted(pids)
        assert len({r.uid for r in received}) == len(pids)
    ids = {r.uid: (r.item.trace_id, r.item.span_id) for r in spans}
    assert {r.uid: (r.item.trace_id, r.item.span_id) for r in logs} == ids


def check_ends(backend: Backend, pids: list[int]) -> None:
    """Check that the end of each span is also one log event of that time."""
    spans = {span.uid: span for span in filter_kills(backend.spans, pids)}
    ends = filter_kills(backend.ends, pids)
    assert sorted(end.attributes["oom.kill.id"] for end in ends) == sorted(spans)
    for end in ends:
        span = spans[end.attributes["oom.kill.id"]]
        assert end.item.event_name == span.item.events[-1].name == "oom.victim.exited"
        assert end.item.time_unix_nano == span.item.end_time_unix_nano
        assert end.item.span_id == span.item.span_id
        assert end.attributes["process.exit.time"] == span.attributes["process.exit.time"]
        assert end.attributes["oom.victim.exit.signal"] == signal.SIGKILL


def test_a_hundred_kills_at_full_speed_arrive_once_each(tmp_path: Path) -> None:
    """Each kill that the kernel counts after READY is one log, one span and one log of its end."""
    backend = Backend()
    with Receiver(backend) as receiver, run_agent(tmp_path, endpoint(receiver)) as running:
        counted = read_oom_kill_count()
        pids = kill_many(100)
        rise = read_oom_kill_count() - counted
        backend.wait_for_kills(pids, within_s=30)
        wait_until(lambda: len(filter_kills(backend.ends, pids)) >= len(pids), "all ends", limit=30)
        assert running.stop() == 0
    check_complete(backend, pids)
    check_ends(backend, pids)
    assert all(span.attributes["oom.victim.exited"] for span in filter_kills(backend.spans, pids))
    # Those of others, if any, are captured as well.
    assert 100 <= rise <= len({log.uid for log in backend.logs})


def test_a_backend_that_is_down_at_first_receives_everything(tmp_path: Path) -> None:
    """Requests that got a 503 are sent again, and nothing arrives twice."""
    backend = Backend(lambda: Reply(503) if backend.rejected < DOWN_REQUESTS else None)
    with Receiver(backend) as receiver, run_agent(tmp_path, endpoint(receiver)):
        pids = kill_many(100)
        backend.wait_for_kills(pids, within_s=120)
        time.sleep(1)
    assert backend.rejected == DOWN_REQUESTS
    check_complete(backend, pids)
    check_ends(backend, pids)


def test_a_backend_that_starts_after_the_agent_has_ended(tmp_path: Path) -> None:
    """The agent's next run delivers."""
    nobody = f"http://127.0.0.1:{free_port()}"
    with run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": nobody}) as running:
        pids = kill_many(5)
        assert running.stop() == 0
    backend = Backend()
    with Receiver(backend) as receiver, run_agent(tmp_path, endpoint(receiver)):
        backend.wait_for_kills(pids, within_s=20)
    check_complete(backend, pids)


def test_sigkill_loses_no_captured_kill(tmp_path: Path) -> None:
    """The next run delivers it, with the same uid."""
    nobody = f"http://127.0.0.1:{free_port()}"
    with run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": nobody}) as running:
        pid = kill_one()
        wait_for_log(running, f"(pid {pid})")
        running.stop(signal.SIGKILL)
    backend = Backend()
    with Receiver(backend) as receiver, run_agent(tmp_path, endpoint(receiver)):
        backend.wait_for_kills([pid], within_s=30)
    check_complete(backend, [pid])


def test_the_limit_of_a_removed_cgroup(tmp_path: Path) -> None:
    """Container runtimes remove a cgroup with its last process; here the agent is late."""
    backend = Backend()
    with Receiver(backend) as receiver, run_agent(tmp_path, endpoint(receiver)) as running:
        running.process.send_signal(signal.SIGSTOP)
        pid = kill_one()
        running.process.send_signal(signal.SIGCONT)
        backend.wait_for_kills([pid], within_s=30)
    (log,) = filter_kills(backend.logs, [pid])
    assert log.attributes["oom.victim.memcg.limit"] == MEMCG_LIMIT
    assert 0 < log.attributes["oom.victim.memcg.usage"] <= MEMCG_LIMIT
    assert "oom.limit.memcg.stat.anon" not in log.attributes


@contextmanager
def run_mute_server() -> Iterator[str]:
    """Run a server that accepts connections and sends nothing; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    accepted.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in accepted:
            connection.close()


def wait_for_log(running: Agent, text: str, within_s: float = 15.0) -> None:
    """Wait until the agent has logged ``text``."""
    deadline = time.monotonic() + within_s
    while text not in running.log_text():
        assert time.monotonic() < deadline, running.log_text()
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("state", ["starting", "idle", "retrying", "hanging", "storm"])
def test_a_signal_ends_it_promptly_and_cleanly(
    tmp_path: Path, number: signal.Signals, state: str
) -> None:
    """In each state: exit code 0, within seconds, no traceback, nothing lost."""
    nobody = f"http://127.0.0.1:{free_port()}"
    with run_mute_server() as mute:
        url = mute if state == "hanging" else nobody
        with run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": url}) as running:
            if state in {"retrying", "hanging"}:
                wait_for_log(running, f"(pid {kill_one()})")
                if state == "retrying":
                    wait_for_log(running, "retrying in")
            elif state == "storm":
                threading.Thread(target=kill_many, args=(10,), daemon=True).start()
                wait_for_log(running, "OOM kill of")
            elif state == "idle":
                time.sleep(1)
            began = time.monotonic()
            assert running.stop(number) == 0
            assert time.monotonic() - began < PROMPT_S
            assert "Traceback" not in running.log_text()
            if state in {"retrying", "hanging"}:
                # The log and the span; more if others were killed meanwhile.
                (left,) = re.findall(r"Stopped: queued=(\d+)", running.log_text())
                assert int(left) >= 2


def test_a_kill_while_it_ends_is_on_disk(tmp_path: Path) -> None:
    """The next run delivers it."""
    with (
        run_mute_server() as mute,
        run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": mute}) as running,
    ):
        pids = [kill_one()]
        wait_for_log(running, f"(pid {pids[0]})")
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        pids.append(kill_one())
        assert running.process.wait(15) == 0
    backend = Backend()
    with Receiver(backend) as receiver, run_agent(tmp_path, endpoint(receiver)):
        backend.wait_for_kills(pids, within_s=30)
    check_complete(backend, pids)


def test_a_signal_before_it_is_ready_ends_it_too(tmp_path: Path) -> None:
    """Without traceback and without a hanging process."""
    for delay_s in (0.05, 0.1, 0.15, 0.2, 0.3):
        with run_agent(tmp_path, {}, ready=False) as running:
            time.sleep(delay_s)
            code = running.stop(signal.SIGTERM)
        assert code in {0, -signal.SIGTERM}
    assert "Traceback" not in (tmp_path / "agent.log").read_text(encoding="utf-8")


def test_a_second_agent_on_one_state_directory(tmp_path: Path) -> None:
    """It ends with exit code 1 and a message, and the first goes on."""
    with run_agent(tmp_path, {}) as first:
        second = subprocess.run(
            [*AGENT_COMMAND, "--no-pin", "--state-dir", first.state_dir],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert second.returncode == 1
        assert "Another otel-oom already works in" in second.stderr
        assert first.process.poll() is None


def test_while_disabled_kills_are_kept_and_not_sent(tmp_path: Path) -> None:
    """Once OTEL_SDK_DISABLED is unset they are delivered."""
    backend = Backend()
    with Receiver(backend) as receiver:
        with run_agent(tmp_path, {**endpoint(receiver), "OTEL_SDK_DISABLED": "true"}) as running:
            pid = kill_one()
            wait_for_log(running, f"(pid {pid})")
            assert running.stop() == 0
        assert not backend.logs
        with run_agent(tmp_path, endpoint(receiver)):
            backend.wait_for_kills([pid], within_s=20)
    check_complete(backend, [pid])


def test_resource_attributes_are_on_the_victims_resource(tmp_path: Path) -> None:
    """Except for those of the agent itself."""
    backend = Backend()
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod,service.name=agent"}
    with Receiver(backend) as receiver, run_agent(tmp_path, {**endpoint(receiver), **environ}):
        pid = kill_one()
        backend.wait_for_kills([pid], within_s=20)
    (log,) = filter_kills(backend.logs, [pid])
    assert log.resource["deployment.environment.name"] == "prod"
    assert log.resource["service.name"] == "tail"
    assert log.resource["host.name"] == socket.gethostname()
