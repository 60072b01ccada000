"""What joins the stages: files into events, each once, and those to the backends or on screen."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from otel_oom.commands.replay import prefilter
from otel_oom.commands.replay.decompress import Stream, UnreadableError, journals, opened
from otel_oom.commands.replay.deduplicate import Deduplicator
from otel_oom.commands.replay.events import Event, EventExtractor
from otel_oom.commands.replay.formats import journal_export
from otel_oom.commands.replay.log_file import LogFile
from otel_oom.commands.replay.log_files import chosen
from otel_oom.commands.replay.prefilter import RawLine
from otel_oom.commands.replay.progress import Progress
from otel_oom.commands.replay.send import DeliveryTimeoutError, sender
from otel_oom.commands.replay.show import Printer
from otel_oom.config.otlp import read_otlp_config
from otel_oom.config.store import MAX_AGE, StoreLimits, read_store_limits
from otel_oom.enrich.host import environment_attributes
from otel_oom.model.events import OomKill

_FOR_EVER_S: Final = 10_000 * 86_400


def replay(paths: Sequence[Path], state_dir: Path, *, dry_run: bool, as_json: bool) -> int:
    """Read logs and send what is found in them, or show it; the exit code.

    Raises:
        ConfigError: a variable is invalid.
        StoreError: the state folder can't be used.
    """
    logging.getLogger("otel_oom").setLevel(logging.WARNING)
    settings = read_otlp_config(os.environ)
    reader = _Reader(paths)
    if not reader.files:
        return reader.end("")
    if dry_run or as_json:
        shower = Printer(environment_attributes(settings.resource), as_json=as_json)
        for event in reader.events():
            shower.take(event)
        return reader.end("shown, and not sent")
    with sender(state_dir, settings, _bounds()) as (sending, store):
        try:
            for event in reader.events(store.replayed_events()):
                sending.take(event)
            done = sending.finish()
            return reader.end(f"{sending.new} of them new; {done}")
        except DeliveryTimeoutError as error:
            reader.fail(str(error))
            return reader.end(f"{sending.new} of them new")


def _bounds() -> StoreLimits:
    """What the store may keep: without a word on its age, what was told stays known for ever."""
    told = read_store_limits(os.environ)
    return told if os.environ.get(MAX_AGE) else replace(told, max_age_s=_FOR_EVER_S)


class _Reader:
    """Reads the files, and says what came of that."""

    def __init__(self, paths: Sequence[Path]) -> None:
        found = chosen(paths)
        self.files = found.files
        self._failed = False
        self._kills = 0
        self._progress = Progress(sum(file.size for file in found.files))
        for sentence in found.refused:
            self.fail(sentence)
        if not found.files and not found.refused:
            names = ", ".join(map(str, paths))
            self.fail(f"There is no kernel log in {names}. Name its files themselves.")

    def events(self, told: Iterable[Event] = ()) -> Iterator[Event]:
        """What the files tell that is not among what was ``told`` before, each event once."""
        known = Deduplicator()
        for event in told:
            known.add(event)
        for file in self.files:
            try:
                for event in _of_file(file, self._progress):
                    self._kills += isinstance(event, OomKill)
                    if known.add(event):
                        self._progress.kills += isinstance(event, OomKill)
                        yield event
            except UnreadableError as error:
                self.fail(str(error))
            self._progress.end_of_file(file.size)

    def fail(self, sentence: str) -> None:
        """Say what went wrong; the rest goes on."""
        self._failed = True
        self._progress.close()
        sys.stderr.write(f"otel-oom: {sentence}\n")

    def end(self, what: str) -> int:
        """Say what was read, and what became of it; the exit code."""
        self._progress.close()
        if self.files:
            sys.stderr.write(f"{self._kills} kills in {self._progress.summary()}; {what}\n")
        return int(self._failed)


def _of_file(file: LogFile, progress: Progress) -> Iterator[Event]:
    with _stream(file) as (stream, position):
        progress.position = position
        yield from EventExtractor(file.path, file.ended_unix_ns).of(
            _near_kills(stream, progress.add)
        )


@contextmanager
def _stream(file: LogFile) -> Iterator[tuple[Stream, Callable[[], int]]]:
    if file.is_journal:
        with journals(file.paths) as stream:
            yield stream, lambda: 0
    else:
        with opened(file.paths[0]) as both:
            yield both


def _near_kills(stream: Stream, progress: Callable[[int], None]) -> Iterator[RawLine]:
    """The lines or entries that matter, by what the file begins with."""
    head = stream.read(len(journal_export.BEGIN))
    whole = _PrependedStream(head, stream)
    if head == journal_export.BEGIN:
        return journal_export.near_kills(whole, progress)
    return prefilter.prefilter_lines(prefilter.whole_lines(whole, progress))


class _PrependedStream:
    """A stream of which the beginning was read already."""

    def __init__(self, head: bytes, rest: Stream) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        return self._rest.read(size)
