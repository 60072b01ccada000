"""`otel-oom run` until it is ready: the store is open, the source attached.

What is imported here, or by the command before, is waited for: all else is imported afterwards.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from otel_oom.capture.source import Source
from otel_oom.config.agent import AgentConfig, read_notify_socket
from otel_oom.linux.systemd.notify import send_notification
from otel_oom.store import Store

_LOG = logging.getLogger(__name__)


def run(
    opening: AbstractContextManager[Source],
    config: AgentConfig,
    state_dir: Path,
    *,
    history: bool = True,
    want_command: bool = False,
) -> None:
    """Capture and deliver until SIGTERM or SIGINT.

    ``history`` is whether to record the kills of this boot from before the first start,
    ``want_command`` whether to record command lines from logs.

    Raises:
        StoreError: the state directory is unusable.
        CaptureError: kills can't be captured.
    """
    with (
        _stop_signals() as stop_fd,
        Store(state_dir, config.store_limits) as store,
        opening as source,
    ):
        notify = partial(send_notification, read_notify_socket(os.environ))
        notify("READY=1")
        gc.enable()
        _LOG.info(
            "Ready: capturing OOM kills by %s (%s); decisions by %s",
            source.hook,
            source.name,
            source.decision_source or "the kernel log, if it is readable",
        )
        from otel_oom.agent import service  # noqa: PLC0415  45 ms, in which capture is attached

        service.run(
            source,
            store,
            config,
            notify,
            stop_fd,
            history=history,
            want_command=want_command,
        )


@contextmanager
def _stop_signals() -> Iterator[int]:
    """Yield a descriptor that becomes readable on SIGTERM and SIGINT."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in previous:
        signal.signal(number, lambda *_: None)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
