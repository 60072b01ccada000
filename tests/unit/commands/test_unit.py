"""`otel-oom unit`, judged by systemd where it can be."""

from __future__ import annotations

import sys
import sysconfig
from difflib import ndiff
from pathlib import Path

import pytest

from otel_oom import cli
from otel_oom.commands import unit
from otel_oom.config.variable import ConfigError
from tests.testlib.repository import REPOSITORY

SYSTEM_PYTHON = Path("/usr/bin/python3")


@pytest.fixture(autouse=True)
def existing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every program exist, but not the interpreter of the tests below a home."""
    monkeypatch.setattr(Path, "exists", lambda _path: True)
    monkeypatch.setattr(sys, "executable", str(SYSTEM_PYTHON))


def changed_lines(printed: str) -> list[str]:
    """Return the lines by which a unit differs from that of deploy/."""
    deployed = (REPOSITORY / "deploy/systemd/otel-oom.service").read_text(encoding="utf-8")
    pairs = ndiff(deployed.splitlines(), printed.splitlines())
    return [line[2:] for line in pairs if line.startswith("+ ")]


def test_the_unit_of_deploy_is_the_same_file() -> None:
    assert (REPOSITORY / "deploy/systemd/otel-oom.service").samefile(unit.UNIT)
    assert changed_lines(unit.render_unit(unit.PROGRAM, SYSTEM_PYTHON)) == []


@pytest.mark.parametrize(
    ("started", "program"),
    [
        ("/srv/venv/bin/otel-oom", "/srv/venv/bin/otel-oom"),
        ("/usr/bin/otel-oom", "/usr/bin/otel-oom"),
        # python -m otel_oom
        ("/srv/lib/otel_oom/__main__.py", "/srv/venv/bin/otel-oom"),
    ],
)
def test_the_running_installation_is_started(
    started: str, program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the path of its program; nothing else differs."""
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.setattr(sysconfig, "get_path", {"scripts": "/srv/venv/bin"}.get)
    assert cli.main(["unit"]) == 0
    assert changed_lines(capsys.readouterr().out) == [f"ExecStart={program} run"]


@pytest.mark.parametrize("home", ["/root/.pyenv/bin", "/home/user/venv/bin"])
def test_a_program_below_a_home_is_visible_to_its_service(home: str) -> None:
    """Also where only the interpreter is there, as with pyenv."""
    program, python = Path(home, "otel-oom"), Path(home, "python3.13")
    for paths in ((program, SYSTEM_PYTHON), (Path("/srv/bin/otel-oom"), python)):
        assert changed_lines(unit.render_unit(*paths))[1:] == ["ProtectHome=read-only"]


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        ("/srv/a b", '"/srv/a b/otel-oom"'),
        ("/srv/100%", "/srv/100%%/otel-oom"),
        ('/srv/"', r'"/srv/\"/otel-oom"'),
    ],
)
def test_a_strange_path_is_quoted(folder: str, line: str) -> None:
    """As systemd.service(5) and the specifiers of systemd.unit(5) need it."""
    printed = unit.render_unit(Path(folder, "otel-oom"), SYSTEM_PYTHON)
    assert changed_lines(printed) == [f"ExecStart={line} run"]


def test_a_temporary_folder_is_an_error() -> None:
    """The service has a /tmp of its own."""
    with pytest.raises(ConfigError, match="PrivateTmp= hides"):
        unit.render_unit(Path("/tmp/otel-oom"), SYSTEM_PYTHON)  # noqa: S108  never made


def test_a_missing_program_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="There is no /nowhere/otel-oom: install otel-oom"):
        unit.render_unit(Path("/nowhere/otel-oom"), SYSTEM_PYTHON)
