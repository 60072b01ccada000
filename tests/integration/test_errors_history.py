"""`otel-oom events` and `show` without a matching event."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from pathlib import Path

import pytest

from otel_oom.store import Store
from tests.testlib.agent import run_agent
from tests.testlib.command import NOBODY, mount_namespace, run_command, run_otel_oom
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require
from tests.testlib.samples.events import KILL, NO_VICTIM, SNAPSHOT, sample_kill

pytestmark = pytest.mark.slow  # each starts commands


@pytest.fixture
def state(tmp_path: Path) -> Path:
    with Store(tmp_path / "state") as store:
        for number in range(2):
            store.insert(sample_kill(number), SNAPSHOT)
    return tmp_path / "state"


@pytest.mark.parametrize("command", ["events", "show", "report"])
def test_a_directory_without_state(tmp_path: Path, command: str) -> None:
    done = run_otel_oom(command, "--state-dir", tmp_path / "nowhere")
    assert (done.code, done.out) == (1, "")
    assert f"No state found in {tmp_path / 'nowhere'}" in done.error_message()
    assert "--state-dir" in done.error_message()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("command", ["events", "show", "queue"])
@pytest.mark.root
def test_a_directory_of_another_user(state: Path, command: str) -> None:
    require(os.geteuid() == 0, "to become somebody else needs root")
    user = [word for word in NOBODY if "dac_read_search" not in word]
    # The repository may be below a directory that is closed to that user.
    with tempfile.TemporaryDirectory() as open_directory:
        Path(open_directory).chmod(0o755)
        mounts = mount_namespace(
            f"mount --bind {shlex.quote(str(REPOSITORY))} {open_directory}", f"cd {open_directory}"
        )
        python = sys.executable.replace(str(REPOSITORY), open_directory, 1)
        words = ("-m", "otel_oom", command, "--state-dir", state)
        done = run_command([*mounts, *user, python, *words])
    assert (done.code, done.out) == (1, "")
    assert "sudo" in done.error_message()


def test_an_event_log_without_a_kill(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.insert(NO_VICTIM, SNAPSHOT)
    done = run_otel_oom("show", "--state-dir", tmp_path)
    assert done.code == 1
    assert "No OOM kills recorded" in done.error_message()
    assert "otel-oom events" in done.error_message()
    listed = run_otel_oom("events", "--since", "1s", "--state-dir", tmp_path)
    assert (listed.code, listed.err) == (0, "")
    assert "No OOM kills recorded" in listed.out


@pytest.mark.parametrize("id_", ["99", "ffffffff-ffff", "\x1b[31mx", "%", ""])
def test_an_unknown_event(state: Path, id_: str) -> None:
    done = run_otel_oom("show", id_, "--state-dir", state)
    assert (done.code, done.out) == (1, "")
    assert "otel-oom events" in done.error_message()
    assert done.error_message().isprintable()


def test_a_process_id_of_several_kills(state: Path) -> None:
    done = run_otel_oom("show", str(KILL.victim.tgid), "--state-dir", state)
    assert done.code == 0
    assert sample_kill(1).uid in done.out
    assert "2 kills had the process id" in done.err


def test_a_beginning_of_several_uids(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for number in range(40):
            store.insert(sample_kill(number), SNAPSHOT)
    uids = [sample_kill(number).uid for number in range(40)]
    digit = max("0123456789abcdef", key=lambda one: sum(uid[0] == one for uid in uids))
    done = run_otel_oom("show", digit, "--state-dir", tmp_path)
    assert done.code == 1
    assert "Give more of the uid" in done.error_message()
    assert sum(uid in done.error_message() for uid in uids) > 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("--since", "yesterday"), ("--since", "2d3h"), ("--last", "0"), ("--last", "many")],
)
def test_invalid_times_and_numbers(state: Path, option: str, value: str) -> None:
    done = run_otel_oom("events", option, value, "--state-dir", state)
    assert (done.code, done.out) == (2, "")
    assert value in done.err


def test_last_and_since(state: Path) -> None:
    every = run_otel_oom("events", "--state-dir", state).out.splitlines()
    last = run_otel_oom("events", "--last", "1", "--state-dir", state).out.splitlines()
    assert sample_kill(1).uid[:8] in last[1]
    assert sample_kill(0).uid[:8] not in "".join(last)
    assert len(every) == len(last) + 1
    since = run_otel_oom("events", "--since", "2023-11-14T22:13:21Z", "--state-dir", state)
    assert sample_kill(0).uid[:8] not in since.out
    since = run_otel_oom("events", "--since", "2023-11-14", "--state-dir", state)
    assert sample_kill(0).uid[:8] in since.out


def test_an_undecodable_event_does_not_hide_the_others(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.insert(KILL, SNAPSHOT)
        store.insert(sample_kill(1), SNAPSHOT)
        store._database.write(  # noqa: SLF001  as another version would write it
            lambda db: db.execute(
                "UPDATE events SET event = '{}', crc32 = NULL WHERE uid = ?", (KILL.uid,)
            )
        )
    done = run_otel_oom("events", "--state-dir", tmp_path)
    assert done.code == 1
    assert KILL.uid in done.error_message()
    assert sample_kill(1).uid[:8] in done.out
    one = run_otel_oom("show", KILL.uid, "--state-dir", tmp_path)
    assert one.code == 1
    assert "can't decode the event" in one.error_message()


@pytest.mark.usefixtures("real_kills")
def test_an_unknown_event_while_an_agent_runs(tmp_path: Path) -> None:
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}) as running:
        done = run_otel_oom("show", "ffffffff-ffff", "--state-dir", running.state_dir)
    assert done.code == 1
    assert "otel-oom events" in done.error_message()
