"""Check the recorded kills against those that systemd counts for its units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from otel_oom.agent.control_client import open_control_client
from otel_oom.agent.control_server import ControlError
from otel_oom.agent.unit_kill_watch import KERNEL, OOMD, recorded_units
from otel_oom.commands.doctor import OK, WARN, Check
from otel_oom.commands.history.queries import read_newest
from otel_oom.linux import clock
from otel_oom.linux.systemd.unit_kills import UnitKills, read_unit_kills
from otel_oom.model.events import StoredEvent
from otel_oom.store import StoreError
from otel_oom.store.types import decode_event

_NAME: Final = "kills of units"
_MAX_EVENTS: Final = 4096
_MAX_UNITS: Final = 8
_ADVICE: Final = (
    "The agent did not run, or with --no-history, or the journal has lost the message. Look for "
    "them: journalctl --boot --grep 'oom'"
)


def check_units(state_dir: Path) -> Iterator[Check]:
    """Compare systemd's counts of this boot with the events of ``state_dir``, if both exist."""
    counted = read_unit_kills()
    if counted is None:
        return
    if not counted:
        yield Check(_NAME, OK, "systemd counts none")
        return
    try:
        kills = list(_read_kills(state_dir))
    except (StoreError, ControlError, OSError):
        return  # No agent has run: nothing can be compared.
    missing = find_unrecorded(counted, kills)
    if not missing:
        yield Check(_NAME, OK, f"recorded for each of {len(counted)} units with a kill")
        return
    shown = ", ".join(missing[:_MAX_UNITS])
    more = f" and {len(missing) - _MAX_UNITS} more" if len(missing) > _MAX_UNITS else ""
    yield Check(_NAME, WARN, f"counted by systemd, not recorded: {shown}{more}", _ADVICE)


def find_unrecorded(counted: Iterable[UnitKills], kills: Iterable[StoredEvent]) -> list[str]:
    """Return the units with a kill by systemd's count and none among ``kills`` of this boot.

    The numbers can differ: the kernel counts the first kill of a group twice, and systemd-oomd an
    action that found no process. Slices repeat the counts of their units.
    """
    recorded = recorded_units(kills)
    return [
        f"{each.unit} ({name}: {count})"
        for each in counted
        for name, count in ((KERNEL, each.kernel), (OOMD, each.oomd))
        if count and not each.unit.endswith(".slice") and (each.unit, name) not in recorded
    ]


def _read_kills(state_dir: Path) -> Iterator[StoredEvent]:
    """Yield the events of this boot among the newest."""
    boot_id = clock.boot_id()
    with open_control_client(state_dir) as query:
        for number, row in enumerate(read_newest(query)):
            if number >= _MAX_EVENTS:
                return
            try:
                event = decode_event(row.kind, row.event)
            except (ValueError, TypeError, LookupError):
                continue
            if event.boot_id == boot_id:
                yield event
