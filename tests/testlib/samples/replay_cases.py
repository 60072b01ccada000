"""Small logs in the forms in which people keep and paste them, and the events replay reads."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from otel_oom.commands.replay.events import Event
from otel_oom.commands.replay.run import LogReader
from otel_oom.model.events import OomKill
from tests.testlib.repository import REPOSITORY

FOLDER: Final = REPOSITORY / "tests/unit/commands/replay/replay_cases"
SAVED: Final = datetime(2025, 8, 13, tzinfo=UTC)
"""When each of the files was last written: dates without a year are of this one."""


def replay_case(name: str, folder: Path) -> list[Event]:
    """Return the events of a text, as the command reads them from a file that it is given."""
    path = folder / name
    shutil.copyfile(FOLDER / name, path)
    os.utime(path, (SAVED.timestamp(), SAVED.timestamp()))
    reader = LogReader([path])
    events = list(reader.events())
    reader.finish("")
    return events


def kills_of_case(name: str, folder: Path) -> list[OomKill]:
    """Return the kills among its events."""
    return [event for event in replay_case(name, folder) if isinstance(event, OomKill)]
