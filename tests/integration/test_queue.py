"""`otel-oom queue`: queued messages and dead letters, with and without a running agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otel_oom.commands.demo.receiver import Receiver, Reply
from otel_oom.store import Rejection, Store, StoreLimits
from tests.testlib.agent import run_agent
from tests.testlib.command import CompletedCommand, run_otel_oom
from tests.testlib.exporter import Outbox, RequestLog
from tests.testlib.servers.http_server import CLIENT_TIMEOUT_S
from tests.testlib.wait import wait_until

ALL = 1 << 30
WHERE = "http://collector:4318"


def queue(state: Path, *words: str) -> CompletedCommand:
    return run_otel_oom("queue", *words, "--state-dir", state)


def as_json(state: Path) -> dict[str, Any]:
    done = queue(state, "--json")
    assert done.code == 0, done
    report: dict[str, Any] = json.loads(done.out)
    return report


def dead_letters(state: Path) -> list[str]:
    return [letter["uid"] for letter in as_json(state)["dead_letters"]]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    outbox = Outbox(tmp_path / "state")
    outbox.enqueue("b", "c", size=1000)
    messages = outbox.store.next_batch("logs", ALL, ALL)
    outbox.store.reject(messages[:1], Rejection(WHERE, "HTTP 400: cannot"))
    outbox.store.reject(messages[1:], Rejection(WHERE, "1 of 9 rejected", ambiguous=True))
    outbox.enqueue("a")
    outbox.close()
    return tmp_path / "state"


def waiting(state: Path) -> list[str]:
    with Store(state) as store:
        return [message.uid for message in store.next_batch("logs", ALL, ALL)]


def test_the_page_lists_queued_messages_and_dead_letters(state: Path) -> None:
    done = queue(state)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert any(line.split()[:2] == ["logs", "1"] for line in lines)
    assert "Rejected: 2" in lines
    (about_b,) = (n for n, line in enumerate(lines) if line.split()[:2] == ["b", "logs"])
    assert lines[about_b + 1].strip() == f"{WHERE}: HTTP 400: cannot"
    (about_c,) = (n for n, line in enumerate(lines) if line.split()[:2] == ["c", "logs"])
    assert lines[about_c + 1].strip() == f"{WHERE}: possibly accepted in part; 1 of 9 rejected"


def test_the_json_has_the_same(state: Path) -> None:
    report = as_json(state)
    (logs,) = report["waiting"]
    assert (logs["signal"], logs["count"]) == ("logs", 1)
    assert logs["size"] > 0
    b, c = report["dead_letters"]
    assert (b["uid"], b["signal"], b["endpoint"], b["reason"], b["ambiguous"]) == (
        "b",
        "logs",
        WHERE,
        "HTTP 400: cannot",
        False,
    )
    assert (c["uid"], c["ambiguous"]) == ("c", True)
    assert b["size"] > 1000


def test_an_empty_queue(tmp_path: Path) -> None:
    with Store(tmp_path):
        pass
    done = queue(tmp_path)
    assert done.code == 0
    assert "Rejected: 0" in done.out
    assert as_json(tmp_path) == {
        "waiting": [],
        "exporters": [],
        "parked": {},
        "off": {},
        "excluded": {},
        "processor_errors": [],
        "dead_letters": [],
    }


def test_resend_without_an_agent(state: Path) -> None:
    done = queue(state, "resend", "b")
    assert (done.code, done.out) == (0, "1 dead letters to be sent again\n")
    assert waiting(state) == ["a", "b"]
    assert dead_letters(state) == ["c"]


def test_all_means_any_number(tmp_path: Path) -> None:
    uids = [f"kill-{number}" for number in range(1000)]
    outbox = Outbox(tmp_path)
    outbox.enqueue(*uids)
    outbox.store.reject(outbox.store.next_batch("logs", ALL, ALL), Rejection(WHERE, "no"))
    outbox.close()
    assert dead_letters(tmp_path) == uids
    assert "and 950 more" in queue(tmp_path).out
    assert queue(tmp_path, "resend", "--all").out == "1000 dead letters to be sent again\n"
    assert waiting(tmp_path) == uids


@pytest.mark.slow
def test_listing_drops_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, StoreLimits(max_bytes=1 << 30))
    larger_than_default = StoreLimits().max_bytes + (16 << 20)
    for number in range(larger_than_default >> 22):
        outbox.enqueue(f"kill-{number}", size=4 << 20)
    outbox.close()
    (logs,) = as_json(tmp_path)["waiting"]
    assert logs["size"] > StoreLimits().max_bytes
    assert logs["count"] == larger_than_default >> 22


def test_drop(state: Path) -> None:
    done = queue(state, "drop", "b")
    assert (done.code, done.out) == (0, "1 dead letters dropped\n")
    assert dead_letters(state) == ["c"]
    assert queue(state, "drop", "--all").code == 0
    assert dead_letters(state) == []
    assert waiting(state) == ["a"]


def test_an_unknown_uid(state: Path) -> None:
    done = queue(state, "resend", "b", "nobody")
    assert done.code == 1
    assert "nobody" in done.error_message()
    assert dead_letters(state) == ["c"]


@pytest.mark.parametrize("words", [["resend"], ["drop"], ["drop", "b", "--all"]])
def test_wrong_use(state: Path, words: list[str]) -> None:
    assert queue(state, *words).code == 2
    assert dead_letters(state) == ["b", "c"]


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_a_store(tmp_path: Path, *, made: bool) -> None:
    folder = tmp_path / "folder"
    if made:
        folder.mkdir()
    done = queue(folder)
    assert done.code == 1
    assert str(folder) in done.error_message()
    assert "--state-dir" in done.error_message()
    assert folder.exists() is made
    assert not made or not list(folder.iterdir())


def test_the_reason_of_a_backend_is_escaped(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.enqueue("a")
    outbox.store.reject(
        outbox.store.next_batch("logs", ALL, ALL), Rejection(WHERE, "\x1b[31m\nfake")
    )
    outbox.close()
    out = queue(tmp_path).out
    assert "\x1b" not in out
    assert not any(line.startswith("fake") for line in out.splitlines())


@pytest.mark.usefixtures("real_kills")
def test_while_an_agent_runs(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "state")
    outbox.enqueue("good", "bad", "worse")
    outbox.close()
    state = tmp_path / "state"
    sick = {"bad", "worse"}
    received = RequestLog(lambda batch: Reply(400, body=b"cannot") if sick & set(batch) else None)
    with (
        Receiver(received) as server,
        run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url}) as running,
    ):
        wait_until(
            lambda: dead_letters(state) == ["bad", "worse"],
            "they are rejected",
            limit=CLIENT_TIMEOUT_S,
        )
        report = as_json(state)
        assert {letter["endpoint"] for letter in report["dead_letters"]} == {server.url}
        assert "good" in received.accepted

        assert queue(state, "drop", "worse").code == 0
        sick.clear()
        assert queue(state, "resend", "--all").code == 0
        wait_until(lambda: "bad" in received.accepted, "it arrives", limit=CLIENT_TIMEOUT_S)
        assert dead_letters(state) == []
        assert "worse" not in received.accepted
        assert running.stop() == 0
    assert not (state / "control.sock").exists()


@pytest.mark.usefixtures("real_kills")
def test_after_an_agent_was_killed(tmp_path: Path) -> None:
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}) as running:
        wait_until(
            (running.state_dir / "control.sock").exists, "it listens", limit=CLIENT_TIMEOUT_S
        )
        running.process.kill()
        running.process.wait()
        assert (running.state_dir / "control.sock").exists()
        assert queue(running.state_dir).code == 0


@pytest.mark.slow
@pytest.mark.usefixtures("real_kills")
def test_a_parked_message_is_counted_as_waiting(tmp_path: Path) -> None:
    """The agent's waits are real here: some seconds until it is isolated."""
    state = tmp_path / "state"
    outbox = Outbox(state)
    outbox.enqueue("poison", *(f"good-{number}" for number in range(9)))
    outbox.close()
    received = RequestLog(lambda batch: Reply(503) if "poison" in batch else None)
    with (
        Receiver(received) as server,
        run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url}) as running,
    ):
        wait_until(
            lambda: as_json(state)["parked"] == {"logs": 1}, "it is parked", limit=180, every=1
        )
        wait_until(lambda: len(received.accepted) >= 9, "the others arrive", limit=30)
        assert "the backend keeps rejecting 1 alone" in queue(state).out
        assert running.stop() == 0
    assert "poison" in waiting(state)
