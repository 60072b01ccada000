"""Sources of OOM events: open the best that this host allows, and watch it."""

from __future__ import annotations

import logging
import select
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from otel_oom.capture.source import (
    VMLINUX_BTF,
    AnnotateKill,
    CaptureError,
    Handler,
    InUseError,
    Source,
)
from otel_oom.model.events import CapturedEvent, OomKill

__all__ = ["CaptureError", "Handler", "Source", "open_source", "watch"]


_LOG = logging.getLogger(__name__)


@contextmanager
def open_source(
    name: str = "auto", *, want_command: bool = False, pin_dir: Path | None = None
) -> Iterator[Source]:
    """Attach the source of that name until the context ends.

    ``auto`` is the best source that this host allows. ``want_command`` records the victim's command
    line, which can hold secrets; the kernel log has none. In ``pin_dir``, a directory of bpffs, the
    BPF objects outlive the process.

    Raises:
        CaptureError: this host does not allow it.
    """

    def libbpf() -> Source:
        from otel_oom.capture.bpf.source import LibbpfSource  # noqa: PLC0415  only the chosen is loaded

        return LibbpfSource(want_command=want_command, pin_dir=pin_dir)

    def bcc() -> Source:
        from otel_oom.capture.bcc.source import BccSource  # noqa: PLC0415  as above

        return BccSource(want_command=want_command)

    def kmsg() -> Source:
        from otel_oom.capture.kmsg.source import KmsgSource  # noqa: PLC0415  as above

        return KmsgSource()

    factories: dict[str, Callable[[], Source]] = {"libbpf": libbpf, "bcc": bcc, "kmsg": kmsg}
    with ExitStack() as attached:
        if name in factories:
            yield attached.enter_context(factories[name]())
            return
        # BCC compiles for seconds: it is tried only where libbpf lacks BTF.
        ladder = (libbpf, kmsg) if VMLINUX_BTF.exists() else (libbpf, bcc, kmsg)
        yield _attach_best(ladder, attached)


def _attach_best(ladder: Sequence[Callable[[], Source]], attached: ExitStack) -> Source:
    reasons: list[str] = []
    for factory in ladder:
        try:
            source = attached.enter_context(factory())
        except InUseError:
            raise
        except CaptureError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            _LOG.warning(
                "BPF unavailable; falling back to %s with fewer fields: %s", source.hook, reason
            )
        why = "better ones are unavailable" if reasons else "the best one, and available"
        _LOG.info("--source auto uses %s: %s", source.name, why)
        return source
    raise CaptureError("\n".join(reasons))


@contextmanager
def watch(source: str = "auto") -> Iterator[Iterator[CapturedEvent]]:
    """Yield kills and exits as they happen, for programs other than the agent.

    The iterator waits for the next event without end. The kernel keeps events in its buffer while
    the caller processes one. Delivery without loss is the agent's work.

    Raises:
        CaptureError: this host does not allow it.
    """
    from otel_oom.capture.kmsg.report_lookup import open_report_index  # noqa: PLC0415  1 MB

    with (
        open_source(source) as attached,
        open_report_index(attached) as annotate,
        closing(_events(attached, annotate)) as events,
    ):
        yield events


def _events(source: Source, annotate: AnnotateKill) -> Generator[CapturedEvent, None, None]:
    pending: list[CapturedEvent] = []
    poll = select.poll()
    poll.register(source, select.POLLIN)
    while True:
        poll.poll()
        source.drain(pending.append)
        for event in pending:
            yield annotate(event) if isinstance(event, OomKill) else event
        pending.clear()
