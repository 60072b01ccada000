"""Where kills come from: the sources, which to take, and how to watch one."""

from __future__ import annotations

import select
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager

from otel_oom.capture.source import CaptureError, Handler, Source
from otel_oom.event import Event

__all__ = ["CaptureError", "Handler", "Source", "choose", "watch"]


def choose(name: str = "auto", *, want_command: bool = False) -> Source:
    """The source of that name; ``auto`` is the best that this host allows.

    ``want_command`` is whether to tell the victim's command line, which can hold secrets.
    """
    from otel_oom.capture.bpf import LibbpfSource  # noqa: PLC0415  only the one chosen is loaded

    sources = {"auto": LibbpfSource, "libbpf": LibbpfSource}
    return sources[name](want_command=want_command)


@contextmanager
def watch(source: str = "auto") -> Iterator[Iterator[Event]]:
    """Kills and exits as they happen, for programs of one's own.

    What is yielded waits for the next event without end. The kernel keeps events while the
    caller is busy with one, as many as its buffer holds; what a caller must not lose on its way
    to somewhere else is the agent's work.

    Raises:
        CaptureError: this host does not allow it.
    """
    with choose(source) as attached, closing(_events(attached)) as events:
        yield events


def _events(source: Source) -> Generator[Event, None, None]:
    waiting: list[Event] = []
    ready = select.poll()
    ready.register(source, select.POLLIN)
    while True:
        ready.poll()
        source.drain(waiting.append)
        yield from waiting
        waiting.clear()
