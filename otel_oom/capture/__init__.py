"""Sources of OOM events: open the best that this host allows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from otel_oom.capture.attach_thread import AttachThread
from otel_oom.capture.source import (
    VMLINUX_BTF,
    CaptureError,
    Handler,
    InUseError,
    Source,
)

__all__ = ["CaptureError", "Handler", "Source", "open_source", "start_attaching"]


_LOG = logging.getLogger(__name__)

_Factory = Callable[[], AbstractContextManager[Source]]


def start_attaching(
    name: str, *, want_command: bool = False, pin_dir: Path | None = None
) -> AttachThread | None:
    """Begin to attach what :func:`open_source` tries first, if that takes long; ``None`` if not."""
    if name not in {"auto", "libbpf"}:
        return None
    from otel_oom.capture.bpf.source import LibbpfSource  # noqa: PLC0415  only the chosen is loaded

    return AttachThread(LibbpfSource(want_command=want_command, pin_dir=pin_dir))


@contextmanager
def open_source(
    name: str = "auto",
    *,
    want_command: bool = False,
    pin_dir: Path | None = None,
    attaching: AttachThread | None = None,
) -> Iterator[Source]:
    """Attach the source of that name until the context ends.

    ``auto`` is the best source that this host allows. ``want_command`` records the victim's command
    line, which can hold secrets; the kernel log has none. In ``pin_dir``, a directory of bpffs, the
    BPF objects outlive the process. ``attaching`` is from :func:`start_attaching`, with the same
    arguments.

    Raises:
        CaptureError: this host does not allow it.
    """

    def libbpf() -> AbstractContextManager[Source]:
        if attaching:
            return attaching
        from otel_oom.capture.bpf.source import LibbpfSource  # noqa: PLC0415  only the chosen is loaded

        return LibbpfSource(want_command=want_command, pin_dir=pin_dir)

    def bcc() -> Source:
        from otel_oom.capture.bcc.source import BccSource  # noqa: PLC0415  as above

        return BccSource(want_command=want_command)

    def kmsg() -> Source:
        from otel_oom.capture.kmsg.source import KmsgSource  # noqa: PLC0415  as above

        return KmsgSource()

    factories: dict[str, _Factory] = {"libbpf": libbpf, "bcc": bcc, "kmsg": kmsg}
    with ExitStack() as attached:
        if name in factories:
            yield attached.enter_context(factories[name]())
            return
        # BCC compiles for seconds: it is tried only where libbpf lacks BTF.
        ladder = (libbpf, kmsg) if VMLINUX_BTF.exists() else (libbpf, bcc, kmsg)
        yield _attach_best(ladder, attached)


def _attach_best(ladder: Sequence[_Factory], attached: ExitStack) -> Source:
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
