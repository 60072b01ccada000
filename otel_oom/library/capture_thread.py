"""The thread that captures, within a program that has threads of its own."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from otel_oom.agent.ingest_stage import IngestOptions, open_ingest
from otel_oom.agent.stats import Stats
from otel_oom.agent.usage_stage import run_usage_recorder
from otel_oom.agent.watchdog import Watchdog
from otel_oom.capture import open_source
from otel_oom.config.library import LibraryConfig
from otel_oom.library.options import CaptureOptions
from otel_oom.linux.containers.service import ContainerService
from otel_oom.store import Store

_LOG = logging.getLogger(__name__)


class CaptureThread:
    """A thread that records events in a store, from :meth:`start` to :meth:`stop`.

    It opens and closes the source itself: a child process of it ends with the thread.
    """

    def __init__(
        self,
        store: Store,
        containers: ContainerService,
        options: CaptureOptions,
        config: LibraryConfig,
        on_event: Callable[[], None],
    ) -> None:
        """Record in ``store``; ``on_event`` is called after each event and at the end."""
        self._store = store
        self._containers = containers
        self._options = options
        self._config = config
        self._on_event = on_event
        self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = threading.Lock()
        self._is_attached = threading.Event()
        self.error: BaseException | None = None
        """Why it ended before :meth:`stop`."""
        self._thread = threading.Thread(target=self._run, name="otel-oom capture", daemon=True)

    def start(self) -> None:
        """Start, and return once kills are captured. Raises CaptureError if they can't be."""
        self._thread.start()
        self._is_attached.wait()
        if self.error is not None:
            self.stop()
            raise self.error

    def stop(self) -> None:
        """Record what has happened so far, and detach from the kernel; from any thread."""
        with self._stopping:
            if self._stop_fd < 0:
                return
            os.eventfd_write(self._stop_fd, 1)
            self._thread.join()
            os.close(self._stop_fd)
            self._stop_fd = -1

    @property
    def is_stopped(self) -> bool:
        """Return whether nothing more is recorded."""
        return self._stop_fd < 0

    def _run(self) -> None:
        options, config, stats = self._options, self._config, Stats()
        try:
            with (
                open_source(options.source, want_command=options.command_line) as source,
                run_usage_recorder(config.usage, self._store, stats, self._on_event) as usage,
                open_ingest(
                    source,
                    self._store,
                    stats,
                    self._containers,
                    Watchdog(None, lambda: None, lambda _: None),
                    options=IngestOptions(
                        history=options.history,
                        want_command=options.command_line,
                        # Without a folder they would come again at every start.
                        want_panics=options.state_dir is not None,
                        report_interval_s=config.report_interval_s,
                    ),
                    on_event=self._on_event,
                    usage=usage,
                ) as ingest,
            ):
                self._is_attached.set()
                try:
                    ingest.loop(self._stop_fd)
                finally:
                    ingest.finish()
        except BaseException as error:  # noqa: BLE001  another thread raises it
            self.error = error
        finally:
            self._is_attached.set()
            self._on_event()
