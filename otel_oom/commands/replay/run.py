"""``otel-oom replay``: read files, extract events, send or print each event once."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.commands.replay.decompress import UnreadableFileError, open_file, open_journals
from otel_oom.commands.replay.deduplicate import Deduplicator
from otel_oom.commands.replay.events import Event, EventExtractor
from otel_oom.commands.replay.hints import Hints
from otel_oom.commands.replay.kill_signs import KillSigns
from otel_oom.commands.replay.line_reader import read_lines
from otel_oom.commands.replay.log_files import LogFile, select_log_files
from otel_oom.commands.replay.progress import Progress
from otel_oom.commands.replay.send import DeliveryTimeoutError, open_submitter
from otel_oom.commands.replay.show import show_events
from otel_oom.config.file import apply_config_file
from otel_oom.config.filters import read_filters
from otel_oom.config.otlp import read_otlp_config
from otel_oom.config.store import MAX_AGE, StoreLimits, read_store_limits
from otel_oom.config.variable import log_warning
from otel_oom.enrich.host import environment_attributes
from otel_oom.model.events import OomKill, UserspaceKill

_UNLIMITED_S: Final = 10_000 * 86_400


def replay(
    paths: Sequence[Path],
    state_dir: Path,
    *,
    dry_run: bool,
    as_json: bool,
    hints: Hints | None = None,
) -> int:
    """Read logs, and send or print their events; return the exit code.

    Raises ConfigError, or StoreError if the state directory can't be used.
    """
    logging.getLogger("otel_oom").setLevel(logging.WARNING)
    config = read_otlp_config(apply_config_file(os.environ, log_warning))
    filters = read_filters(os.environ)
    reader = LogReader(paths, hints)
    if not reader.files:
        return reader.finish("")
    if dry_run or as_json:
        show_events(reader.events(), environment_attributes(config.resource), as_json=as_json)
        return reader.finish("printed, not sent")
    with open_submitter(state_dir, config, _store_limits(), filters) as (submitter, store):
        try:
            for event in reader.events(store.replayed_events()):
                submitter.submit(event)
            result = submitter.finish()
            return reader.finish(f"{submitter.new} of them new; {result}", duplicates=True)
        except DeliveryTimeoutError as error:
            reader.fail(str(error))
            return reader.finish(f"{submitter.new} of them new", duplicates=True)


def _store_limits() -> StoreLimits:
    """Return the limits of the store; unless set, no age: it knows what was sent before."""
    limits = read_store_limits(os.environ)
    return limits if os.environ.get(MAX_AGE) else replace(limits, max_age_s=_UNLIMITED_S)


class LogReader:
    """Reader of the events of several files, which counts and reports on standard error."""

    def __init__(self, paths: Sequence[Path], hints: Hints | None = None) -> None:
        selection = select_log_files(paths)
        self.files = selection.files
        self._hints = hints or Hints()
        self._failed = False
        self._kills = 0
        self._events = 0
        self._silent_files = 0
        self._progress = Progress(sum(file.size for file in selection.files))
        for note in selection.notes:
            sys.stderr.write(f"otel-oom: {note}\n")
        for error in selection.errors:
            self.fail(error)
        if not selection.files and not selection.errors:
            names = ", ".join(map(str, paths))
            self.fail(f"There is no kernel log in {names}. Name the files themselves.")

    def events(self, sent: Iterable[Event] = ()) -> Iterator[Event]:
        """Yield each event of the files once, without those that were ``sent`` before."""
        deduplicator = Deduplicator()
        for event in sent:
            deduplicator.add(event)
        for file in self.files:
            signs, events_before = KillSigns(), self._events
            try:
                for event in _events(file, self._hints, self._progress, signs):
                    self._events += 1
                    self._kills += isinstance(event, OomKill | UserspaceKill)
                    if deduplicator.add(event):
                        self._progress.kills += isinstance(event, OomKill | UserspaceKill)
                        self._progress.clear()
                        yield event
            except UnreadableFileError as error:
                self.fail(str(error))
            if signs.first and self._events == events_before:
                self._report_silence(file, signs)
            self._progress.end_file(file.size)

    def _report_silence(self, file: LogFile, signs: KillSigns) -> None:
        self._silent_files += 1
        self._progress.clear()
        path = "standard input" if file.path is None else str(file.path)
        sys.stderr.write(f"otel-oom: {signs.describe_silence(path)}\n")

    def fail(self, error: str) -> None:
        """Report an error and go on; the exit code will be 1."""
        self._failed = True
        self._progress.clear()
        sys.stderr.write(f"otel-oom: {error}\n")

    def finish(self, result: str, *, duplicates: bool = False) -> int:
        """Report how much was read, and the ``result``; return the exit code.

        The kills are those that were yielded, or with ``duplicates`` all in the files. The exit
        code is 1 also if there was a sign of a kill and no event.
        """
        self._progress.clear()
        if self.files:
            kills = self._kills if duplicates else self._progress.kills
            sys.stderr.write(f"{kills} kills in {self._progress.summary()}; {result}\n")
        return int(self._failed or (self._silent_files > 0 and not self._events))


def _events(file: LogFile, hints: Hints, progress: Progress, signs: KillSigns) -> Iterator[Event]:
    opened = open_journals(file.paths) if file.is_journal else open_file(file.paths[0])
    with opened as (stream, progress.position):
        extractor = EventExtractor(
            file.path,
            file.ended_unix_ns,
            is_named=file.is_named,
            is_vouched=file.is_vouched,
            hints=hints,
        )
        lines = read_lines(stream, progress.add, signs.search)
        yield from extractor.extract(signs.watch(lines))
