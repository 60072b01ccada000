"""systemd's counts of kills, as `systemctl show` prints them."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_oom.linux.systemd.unit_kills import UnitKills, parse_unit_kills, read_unit_kills

SHOWN = """\
Id=victim.service
ControlGroup=/pressed.slice/victim.service
OOMKills=0
ManagedOOMKills=2

Id=dbus.socket
ControlGroup=
OOMKills=18446744073709551615
ManagedOOMKills=18446744073709551615

Id=basic.target

Id=php.service
ControlGroup=
Delegate=yes
OOMKills=3
ManagedOOMKills=0
"""


def test_units_with_a_kill_are_returned() -> None:
    """The largest number stands for none; a unit that has ended has no cgroup."""
    assert parse_unit_kills(SHOWN) == [
        UnitKills("victim.service", "/pressed.slice/victim.service", 0, 2),
        UnitKills("php.service", None, 3, 0, is_delegated=True),
    ]


@pytest.mark.parametrize("text", ["", "Id=a.service\nControlGroup=/a\n\nId=b.target\n"])
def test_an_older_systemd_counts_nothing(text: str) -> None:
    """It prints no property that it does not know."""
    assert parse_unit_kills(text) is None


@pytest.mark.parametrize("script", [None, "exit 1", "echo ManagedOOMKills=1; exit 1"])
def test_a_host_without_systemd_counts_nothing(tmp_path: Path, script: str | None) -> None:
    """As in a container: there is no program, or it cannot connect."""
    program = tmp_path / "systemctl"
    if script:
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
        program.chmod(0o700)
    assert read_unit_kills(program=str(program)) is None
