"""The recorded kills against those that systemd counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_oom.commands.doctor import OK, WARN, units
from otel_oom.commands.doctor.units import check_units, find_unrecorded
from otel_oom.linux import clock
from otel_oom.linux.systemd.unit_kills import UnitKills
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import Memcg
from otel_oom.store import Store
from tests.testlib.samples.events import sample_kill

WEB = UnitKills("web.service", "/system.slice/web.service", 2, 0)
KILL = sample_kill(memcg=Memcg(1, "/system.slice/web.service/worker"))


def test_a_unit_without_an_event_is_named() -> None:
    """By each killer; a recorded kill of the kernel is none of systemd-oomd."""
    both = UnitKills("web.service", None, 2, 1)
    assert find_unrecorded([both], []) == [
        "web.service (kernel: 2)",
        "web.service (systemd-oomd: 1)",
    ]
    assert find_unrecorded([both], [KILL]) == ["web.service (systemd-oomd: 1)"]


def test_slices_repeat_their_units() -> None:
    assert find_unrecorded([UnitKills("system.slice", "/system.slice", 2, 1)], []) == []


@pytest.mark.parametrize("recorded", [False, True])
def test_doctor_compares_the_events_of_this_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, recorded: bool
) -> None:
    """A kill of an earlier boot stands for none of this one."""
    monkeypatch.setattr(units, "read_unit_kills", lambda: [WEB])
    with Store(tmp_path) as store:
        boot_id = clock.boot_id() if recorded else "11112222-3333-4444-5555-666677778888"
        store.insert(sample_kill(memcg=KILL.memcg, boot_id=boot_id), Snapshot(process_found=False))
    (check,) = check_units(tmp_path)
    if recorded:
        assert (check.state, check.advice) == (OK, "")
    else:
        assert check.state == WARN
        assert check.detail == "counted by systemd, not recorded: web.service (kernel: 2)"


def test_nothing_is_compared_without_an_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "read_unit_kills", lambda: [WEB])
    assert list(check_units(tmp_path)) == []
