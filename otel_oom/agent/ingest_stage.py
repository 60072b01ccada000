"""The ingest loop with all of its sources: what must run wherever kills are recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial

from msgspec import Struct

from otel_oom.agent.ingest import IngestLoop
from otel_oom.agent.recorder import EventRecorder
from otel_oom.agent.stats import Stats
from otel_oom.agent.watchdog import Watchdog
from otel_oom.capture.source import Source, SourceSet
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.events import OomKill, Panic
from otel_oom.model.snapshot import Snapshot
from otel_oom.snapshot.environ import EnvironReader
from otel_oom.snapshot.usage import UsageSource
from otel_oom.store import Store


class IngestOptions(Struct, frozen=True):
    """What is recorded.

    ``history``: kills of this boot from before the first start. ``want_command``: command lines
    from logs. ``want_panics``: panics of earlier boots. Within ``report_interval_s`` a container's
    kills share one report of the kernel.
    """

    history: bool = True
    want_command: bool = False
    want_panics: bool = True
    report_interval_s: int = 0


@contextmanager
def open_ingest(  # noqa: PLR0913  each is named at the call
    source: Source,
    store: Store,
    stats: Stats,
    containers: ContainerService,
    watchdog: Watchdog,
    *,
    options: IngestOptions,
    on_event: Callable[[], None],
    usage: UsageSource | None = None,
) -> Iterator[IngestLoop]:
    """Yield the loop that records events of the attached ``source``, and of logs, in ``store``.

    ``on_event`` is called after each event, from several threads. ``usage`` has the minutes before
    a kill.
    """
    from otel_oom.capture.kmsg.report_lookup import open_report_index  # noqa: PLC0415  after capture has begun
    from otel_oom.capture.panic import scan  # noqa: PLC0415  likewise
    from otel_oom.capture.userspace.daemons import is_talos  # noqa: PLC0415  likewise
    from otel_oom.capture.userspace.watch import DaemonWatch  # noqa: PLC0415  likewise

    if options.want_panics:
        scan.start_panic_scan(partial(store_panic, store, stats), on_event)

    stopped, environ = threading.Event(), EnvironReader()

    def create_journal() -> Source:
        from otel_oom.agent.unit_kill_watch import start_unit_kill_watch  # noqa: PLC0415  few hosts need it
        from otel_oom.capture.userspace.source import JournalSource  # noqa: PLC0415  likewise

        environ.start()
        start_unit_kill_watch(store, on_event, stopped)
        return JournalSource(
            store.path,
            history=options.history,
            want_command=options.want_command,
            want_signals=source.name == "libbpf",
        )

    talos: AbstractContextManager[Source | None] = nullcontext()
    if is_talos():
        environ.start()
        talos = _prepare_talos()
    with (
        DaemonWatch(create_journal) as daemons,
        talos as controller,
        _setting(stopped),
        open_report_index(source) as annotate,
    ):

        def complete_kill(kill: OomKill) -> OomKill:
            return daemons.add_requester(annotate(kill))

        recorder = EventRecorder(
            store,
            stats,
            containers,
            complete_kill,
            report_interval_s=options.report_interval_s,
            usage=usage,
            environ=environ,
        )
        with closing(recorder):
            yield IngestLoop(
                SourceSet(source, (daemons, controller) if controller else (daemons,)),
                store,
                recorder,
                stats,
                watchdog,
                on_event=on_event,
                history=options.history,
            )


@contextmanager
def _setting(event: threading.Event) -> Iterator[None]:
    """Set ``event`` at the end."""
    try:
        yield
    finally:
        event.set()


def store_panic(store: Store, stats: Stats, panic: Panic) -> bool:
    """Store and count a panic of an earlier boot; return whether it is new."""
    is_new = store.insert(panic, Snapshot(process_found=False))
    if is_new:
        stats.on_event_of_thread(panic)
    return is_new


def _prepare_talos() -> AbstractContextManager[Source | None]:
    from otel_oom.capture.userspace.talos import TalosSource  # noqa: PLC0415  few hosts are Talos'

    return TalosSource()
