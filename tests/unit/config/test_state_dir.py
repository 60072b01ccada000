"""Default state directories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_oom.config.state_dir import read_replay_state_dir, read_state_dir


def test_state_dir_of_the_service_wins() -> None:
    assert read_state_dir({}) == Path("/var/lib/otel-oom")
    assert read_state_dir({"STATE_DIRECTORY": "/a:/b"}) == Path("/a")
    assert read_replay_state_dir({"STATE_DIRECTORY": "/a:/b"}) == Path("/a/replay")


@pytest.mark.parametrize(
    ("user_id", "state_home", "expected"),
    [
        (0, "/home/me/state", "/var/lib/otel-oom-replay"),
        (1000, "/home/me/state", "/home/me/state/otel-oom-replay"),
        (1000, "relative", os.path.expanduser("~/.local/state/otel-oom-replay")),  # noqa: PTH111  as the code
    ],
)
def test_replay_uses_a_directory_of_the_user(
    user_id: int, state_home: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user_id)
    assert read_replay_state_dir({"XDG_STATE_HOME": state_home}) == Path(expected)
