"""``otel-oom doctor --alive``: the agent's own answer, as a probe gets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from otel_oom.agent.control_server import ControlServer, Handlers
from otel_oom.agent.turn_probe import TurnProbe
from otel_oom.commands.doctor import alive
from otel_oom.store import Store
from tests.testlib.command import CompletedCommand, run_otel_oom
from tests.testlib.ingest import ScriptedSource, ingest_loop

LIMIT_S = 20.0


def check_alive(state_dir: Path, *words: str) -> CompletedCommand:
    return run_otel_oom("doctor", "--alive", "--state-dir", state_dir, *words)


def check_alive_here(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = alive.print_liveness(state_dir, as_json=False)
    return code, capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (None, 0, "The agent captures, its store responds, and no delivery thread is stalled.\n"),
        (
            "thread 'encode' has been stalled for 61 s",
            1,
            "The agent is not healthy: thread 'encode' has been stalled for 61 s.\n",
        ),
    ],
)
def test_the_agent_answers_itself(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: str | None,
    code: int,
    sentence: str,
) -> None:
    with ControlServer(tmp_path, {"alive": lambda _: error}):
        assert check_alive_here(tmp_path, capsys) == (code, sentence)


def test_an_agent_that_does_not_answer_is_not_alive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its store hangs, it is an earlier version, or it is not there."""
    monkeypatch.setattr(alive, "TIMEOUT_S", 0.01)
    release = threading.Event()
    cases: list[tuple[Handlers, str]] = [
        ({"alive": lambda _: release.wait(LIMIT_S)}, "has not responded for 0 s"),
        ({}, "does not know this request"),
    ]
    for handlers, words in cases:
        with ControlServer(tmp_path, handlers):
            code, sentence = check_alive_here(tmp_path, capsys)
            release.set()
        assert code == 1
        assert words in sentence
        monkeypatch.setattr(alive, "TIMEOUT_S", LIMIT_S)
    code, sentence = check_alive_here(tmp_path, capsys)
    assert (code, sentence.partition(".")[0]) == (1, f"No agent runs in {tmp_path}")


def test_as_a_command_it_prints_one_sentence_or_json(tmp_path: Path) -> None:
    done = check_alive(tmp_path)
    assert (done.code, done.out.count("\n"), done.err) == (1, 1, "")
    with ControlServer(tmp_path, {"alive": lambda _: None}):
        done = check_alive(tmp_path, "--json")
    assert done.code == 0
    assert json.loads(done.out)["alive"] is True


def test_it_loads_nothing_that_only_other_commands_need(tmp_path: Path) -> None:
    """It runs every half a minute, within the memory limit of the agent."""
    program = (
        "import sys; from otel_oom import cli;"
        f"cli.main(['doctor', '--alive', '--state-dir', {str(tmp_path)!r}]);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    out = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=LIMIT_S)
    heavy = {"opentelemetry", "google", "grpc", "rich", "requests", "ssl", "asyncio"}
    assert not heavy.intersection(out.split())


def test_the_capture_loop_answers_at_each_turn_and_not_while_it_hangs(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with Store(tmp_path) as store, ScriptedSource() as source:
        loop = ingest_loop(source, store)
        thread = threading.Thread(target=loop.loop, args=(reader,), daemon=True)
        assert not loop.probe.wait_for_turn(0.01)
        thread.start()
        for _ in range(3):
            assert loop.probe.wait_for_turn(LIMIT_S)
        os.write(writer, b"x")
        thread.join(LIMIT_S)
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_a_turn_without_a_request_is_no_answer() -> None:
    probe = TurnProbe()
    probe.answer()
    assert not probe.wait_for_turn(0.0)
    probe.answer()
    assert not probe.wait_for_turn(0.0)
