"""``otel-oom replay``: read files, extract events, send or print each event once."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from otel_oom.commands.replay import prefilter
from otel_oom.commands.replay.decompress import UnreadableFileError, open_file, open_journals
from otel_oom.commands.replay.deduplicate import Deduplicator
from otel_oom.commands.replay.events import Event, EventExtractor
from otel_oom.commands.replay.formats import journal_export
from otel_oom.commands.replay.log_files import LogFile, select_log_files
from otel_oom.commands.replay.progress import Progress
from otel_oom.commands.replay.send import DeliveryTimeoutError, open_submitter
from otel_oom.commands.replay.show import show_events
from otel_oom.config.otlp import read_otlp_config
from otel_oom.config.store import MAX_AGE, StoreLimits, read_store_limits
from otel_oom.enrich.host import environment_attributes
from otel_oom.model.events import OomKill

_UNLIMITED_S: Final = 10_000 * 86_400


def replay(paths: Sequence[Path], state_dir: Path, *, dry_run: bool, as_json: bool) -> int:
    """Read logs, and send or print their events; return the exit code.

    Raises ConfigError, or StoreError if the state directory can't be used.
    """
    logging.getLogger("otel_oom").setLevel(logging.WARNING)
    config = read_otlp_config(os.environ)
    reader = _Reader(paths)
    if not reader.files:
        return reader.finish("")
    if dry_run or as_json:
        show_events(reader.events(), environment_attributes(config.resource), as_json=as_json)
        return reader.finish("printed, not sent")
    with open_submitter(state_dir, config, _store_limits()) as (submitter, store):
        try:
            for event in reader.events(store.replayed_events()):
                submitter.submit(event)
            result = submitter.finish()
            return reader.finish(f"{submitter.new} of them new; {result}")
        except DeliveryTimeoutError as error:
            reader.fail(str(error))
            return reader.finish(f"{submitter.new} of them new")


def _store_limits() -> StoreLimits:
    """Return the limits of the store; unless set, no age: it knows what was sent before."""
    limits = read_store_limits(os.environ)
    return limits if os.environ.get(MAX_AGE) else replace(limits, max_age_s=_UNLIMITED_S)


class _Reader:
    def __init__(self, paths: Sequence[Path]) -> None:
        selection = select_log_files(paths)
        self.files = selection.files
        self._failed = False
        self._kills = 0
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
            try:
                for event in _events(file, self._progress):
                    self._kills += isinstance(event, OomKill)
                    if deduplicator.add(event):
                        self._progress.kills += isinstance(event, OomKill)
                        self._progress.clear()
                        yield event
            except UnreadableFileError as error:
                self.fail(str(error))
            self._progress.end_file(file.size)

    def fail(self, error: str) -> None:
        """Report an error and go on; the exit code will be 1."""
        self._failed = True
        self._progress.clear()
        sys.stderr.write(f"otel-oom: {error}\n")

    def finish(self, result: str) -> int:
        """Report how much was read, and the ``result``; return the exit code."""
        self._progress.clear()
        if self.files:
            sys.stderr.write(f"{self._kills} kills in {self._progress.summary()}; {result}\n")
        return int(self._failed)


def _events(file: LogFile, progress: Progress) -> Iterator[Event]:
    opened = open_journals(file.paths) if file.is_journal else open_file(file.paths[0])
    with opened as (stream, progress.position):
        if stream.peek(len(journal_export.BEGIN)) == journal_export.BEGIN:
            lines = journal_export.prefilter_entries(stream, progress.add)
        else:
            lines = prefilter.prefilter_lines(prefilter.read_blocks(stream, progress.add))
        extractor = EventExtractor(
            file.path, file.ended_unix_ns, is_named=file.is_named, is_vouched=file.is_vouched
        )
        yield from extractor.extract(lines)
