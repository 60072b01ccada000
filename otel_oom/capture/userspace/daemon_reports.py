"""Turn the messages of all daemons into reports of kills, in the order of the journal."""

from __future__ import annotations

from collections.abc import Iterator

from otel_oom.capture.userspace.daemons import NOHANG, SYSTEMD_OOMD
from otel_oom.capture.userspace.messages import parse_message
from otel_oom.capture.userspace.nohang import NohangParser
from otel_oom.capture.userspace.oomd_reports import OomdReports, Report
from otel_oom.linux.systemd.journal_entry import JournalEntry


class DaemonReports:
    """The messages that a later one of the same daemon needs."""

    def __init__(self, boot_id: str) -> None:
        """Start before any message of this boot."""
        self.oomd = OomdReports(boot_id)
        self._nohang = {unit: NohangParser() for unit in NOHANG}
        self._previous: dict[str, str] = {}

    def add_entry(self, entry: JournalEntry) -> Iterator[Report]:
        """Take a message; return the kills that it completes."""
        if entry.unit == SYSTEMD_OOMD:
            yield from self.oomd.add_entry(entry)
        if entry.unit in self._nohang:
            parsed = self._nohang[entry.unit].feed(entry.message)
        else:
            parsed = parse_message(entry.unit, entry.message, self._previous.get(entry.unit, ""))
            self._previous[entry.unit] = entry.message
        if parsed is None:
            return
        if entry.unit == SYSTEMD_OOMD:
            self.oomd.note_reported(parsed.path)
        # In the order of the journal, whose cursor is saved with each kill.
        yield from self.oomd.flush()
        yield Report(parsed, entry)
