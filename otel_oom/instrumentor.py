"""``opentelemetry-instrument``: the kills of this host, beside the telemetry of a program.

The entry point of the group ``opentelemetry_instrumentor``. It must never disturb the program: what
keeps it from capturing is one line of the log.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Final

from otel_oom.config.store import read_state_dir
from otel_oom.config.variable import read_log_level
from otel_oom.linux.rights import find_missing_rights

if TYPE_CHECKING:  # imported late, see _start()
    from collections.abc import Iterable

    from opentelemetry.sdk.trace import SpanProcessor

    from otel_oom.pipeline import OomEvents

_LOG = logging.getLogger(__name__)

_LOCK: Final = "/run/otel-oom-instrumentor.lock"
"""Held by the first instrumented program of the host: its child processes are instrumented too."""
_RESPONSE_S: Final = 1.0


class OomInstrumentor:
    """The instrumentor of a host, with the methods of OpenTelemetry's ``BaseInstrumentor``.

    That class itself would be a dependency of the agent.
    """

    _events: ClassVar[OomEvents | None] = None
    _lock: ClassVar[int | None] = None

    def instrument(self, **_: object) -> None:
        """Emit kills by the global providers, unless an agent or another program does."""
        cls = type(self)
        if cls._events is not None:
            return
        level, obstacle = logging.INFO, None
        try:
            obstacle = _find_obstacle()
            if obstacle is None and not cls._take_lock():
                # Each child process of the first program comes here.
                level, obstacle = logging.DEBUG, "another instrumented program does"
            if obstacle is None:
                cls._events = _start()
        except Exception as error:  # noqa: BLE001  the program goes on without
            obstacle = str(error) or type(error).__name__
        if cls._events is None:
            cls._release_lock()
        if obstacle is not None:
            _log_line(level, f"OOM kills are not captured by this program: {obstacle}")

    def uninstrument(self, **_: object) -> None:
        """Emit what has happened so far, and stop."""
        cls = type(self)
        events, cls._events = cls._events, None
        if events is not None:
            events.stop()
        cls._release_lock()

    @classmethod
    def _take_lock(cls) -> bool:
        with suppress(OSError):
            cls._lock = os.open(_LOCK, os.O_CLOEXEC | os.O_NOFOLLOW | os.O_RDWR | os.O_CREAT, 0o600)
            # A child that outlives this process must not keep the lock.
            os.register_at_fork(after_in_child=cls._close_lock)
            try:
                fcntl.flock(cls._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    @classmethod
    def _release_lock(cls) -> None:
        if cls._lock is not None:
            with suppress(OSError):
                fcntl.flock(cls._lock, fcntl.LOCK_UN)
        cls._close_lock()

    @classmethod
    def _close_lock(cls) -> None:
        lock, cls._lock = cls._lock, None
        if lock is not None:
            os.close(lock)


def _find_obstacle() -> str | None:
    """Return what keeps this process from the work, or who does it already."""
    for right in find_missing_rights():
        if right.of_source:
            return f"{right.name} is missing: {right.loss}"
    # The agent's own directory: STATE_DIRECTORY is the program's.
    state_dir = read_state_dir({})
    from otel_oom.agent.control_server import NoAgentError, send_request  # noqa: PLC0415  not without rights

    try:
        send_request(state_dir, {"method": "alive"}, _RESPONSE_S)
    except NoAgentError:
        return None
    except Exception:  # noqa: BLE001  an agent that is busy is one
        _LOG.debug("The agent did not respond", exc_info=True)
    return f"the agent in {state_dir} does"


def _start() -> OomEvents | None:
    """Start with the providers of the SDK; ``None`` without any."""
    from opentelemetry._logs import get_logger_provider  # noqa: PLC0415  as above
    from opentelemetry.metrics import get_meter_provider  # noqa: PLC0415
    from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415

    from otel_oom.pipeline import OomEvents  # noqa: PLC0415

    loggers, meters = get_logger_provider(), get_meter_provider()
    spans = _span_processors()
    if not isinstance(loggers, LoggerProvider) and not spans:
        return None
    events = OomEvents(
        logger_provider=loggers if isinstance(loggers, LoggerProvider) else None,
        span_processors=spans,
        meter_provider=meters if isinstance(meters, MeterProvider) else None,
    )
    events.start()
    return events


def _span_processors() -> Iterable[SpanProcessor]:
    """Return the processor of the tracer provider, which the SDK does not publish."""
    from opentelemetry.trace import get_tracer_provider  # noqa: PLC0415  as above

    processor = getattr(get_tracer_provider(), "_active_span_processor", None)
    return () if processor is None else (processor,)


def _log_line(level: int, text: str) -> None:
    """Log a line. Python shows none below WARNING before the program has set up its logging."""
    if _LOG.hasHandlers():
        _LOG.log(level, "%s", text)
    elif read_log_level(os.environ, lambda _: None) <= level:
        sys.stderr.write(f"{logging.getLevelName(level)} otel-oom: {text}\n")
