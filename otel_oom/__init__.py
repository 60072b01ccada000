"""Every OOM kill of a Linux host as OpenTelemetry logs and spans.

::

    cli.py __main__.py      words -> command
    commands/               what a person runs: run, history/ (events, show), queue, doctor, demo, …
    pipeline.py library/    the same events for programs: OomEvents, watch()
    agent/                  `otel-oom run`: lifecycle, ingest loop, delivery threads, control socket

    capture/                1. kernel -> events        bpf/  bcc/  kmsg/  userspace/  panic/
    snapshot/               2. /proc and cgroup state at the moment of the kill
    store/                  3. event log, outbox, dead letters             recovery/
    enrich/                 4. whose process, which service, what to do    advice/
    otlp/                   5. events -> OTLP
    export/                 6. OTLP -> backend

    model/                  the types that travel through 1-6 (no I/O)
    linux/                  readers of a Linux host, no policy
    config/                 the agent's own environment variables, OTLP's and systemd's

A module imports only from below: cli > commands > pipeline > library > agent > export > otlp >
enrich > store > snapshot > capture > linux > config > model.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported on their first use, see __getattr__()
    from otel_oom.capture.source import CaptureError
    from otel_oom.config.variable import ConfigError
    from otel_oom.library.watch import Watch, watch
    from otel_oom.otlp.event import Event, Processor
    from otel_oom.store import StoreError

__all__ = [
    "CaptureError",
    "ConfigError",
    "Event",
    "Processor",
    "StoreError",
    "Watch",
    "watch",
]

__version__ = "0.1.0"

_MODULES = {
    "CaptureError": "otel_oom.capture.source",
    "ConfigError": "otel_oom.config.variable",
    "Event": "otel_oom.otlp.event",
    "Processor": "otel_oom.otlp.event",
    "StoreError": "otel_oom.store",
    "Watch": "otel_oom.library.watch",
    "watch": "otel_oom.library.watch",
}


def __getattr__(name: str) -> object:
    """Import what a program uses of the library: the agent's start must not pay for it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  as above

    return getattr(import_module(_MODULES[name]), name)
