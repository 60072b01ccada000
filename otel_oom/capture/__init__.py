"""Where kills come from: the sources, which to take, and how to watch one."""

from __future__ import annotations

import logging
import select
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import cast

from otel_oom.capture.source import VMLINUX_BTF, CaptureError, Handler, InUseError, Source
from otel_oom.model.events import CapturedEvent

__all__ = ["CaptureError", "Handler", "Source", "choose", "watch"]


_LOG = logging.getLogger(__name__)


def choose(
    name: str = "auto", *, want_command: bool = False, pin_dir: Path | None = None
) -> Source:
    """The source of that name; ``auto`` is the best that this host allows.

    ``want_command`` is whether to tell the victim's command line, which can hold secrets; the
    kernel's log has none. In ``pin_dir``, a folder of bpffs, the kernel side outlives the process.
    """

    def libbpf() -> Source:
        from otel_oom.capture.bpf.source import LibbpfSource  # noqa: PLC0415  only the chosen is loaded

        return LibbpfSource(want_command=want_command, pin_dir=pin_dir)

    def bcc() -> Source:
        from otel_oom.capture.bcc.source import BccSource  # noqa: PLC0415  as above

        return BccSource(want_command=want_command)

    named: dict[str, Callable[[], Source]] = {"libbpf": libbpf, "bcc": bcc, "kmsg": _kmsg}
    if name in named:
        return named[name]()
    # To compile on the host is worth its while only where libbpf can't find its way.
    ladder = (libbpf, _kmsg) if VMLINUX_BTF.exists() else (libbpf, bcc, _kmsg)
    return cast("Source", _Best(*ladder))


def _kmsg() -> Source:
    from otel_oom.capture.kmsg.source import KmsgSource  # noqa: PLC0415  as above

    return KmsgSource()


class _Best:
    """The first of some sources that this host allows: entering it gives that one."""

    def __init__(self, *sources: Callable[[], Source]) -> None:
        self._sources = sources
        self._entered = ExitStack()

    def __enter__(self) -> Source:
        reasons: list[str] = []
        for source in self._sources:
            try:
                entered = self._entered.enter_context(source())
            except InUseError:
                raise
            except CaptureError as error:
                reasons.append(str(error))
            else:
                for reason in reasons:
                    _LOG.warning(
                        "Capturing by %s, with fewer fields, for BPF is refused: %s",
                        entered.hook,
                        reason,
                    )
                why = "those before it are refused" if reasons else "the best, and allowed here"
                _LOG.info("--source auto takes %s: %s", entered.name, why)
                return entered
        raise CaptureError("\n".join(reasons))

    def __exit__(self, *exception: object) -> None:
        self._entered.close()


@contextmanager
def watch(source: str = "auto") -> Iterator[Iterator[CapturedEvent]]:
    """Kills and exits as they happen, for programs of one's own.

    What is yielded waits for the next event without end. The kernel keeps events while the
    caller is busy with one, as many as its buffer holds; what a caller must not lose on its way
    to somewhere else is the agent's work.

    Raises:
        CaptureError: this host does not allow it.
    """
    with choose(source) as attached, closing(_events(attached)) as events:
        yield events


def _events(source: Source) -> Generator[CapturedEvent, None, None]:
    waiting: list[CapturedEvent] = []
    ready = select.poll()
    ready.register(source, select.POLLIN)
    while True:
        ready.poll()
        source.drain(waiting.append)
        yield from waiting
        waiting.clear()
