"""The public interface: whoever changes it changes other people's programs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields

import otel_oom
from otel_oom.pipeline import OomEvents

WATCH = {
    "state_dir": None,
    "source": "auto",
    "history": False,
    "command_line": False,
    "processors": (),
}
EVENTS = {
    "logger_provider": None,
    "span_processors": (),
    "meter_provider": None,
    "processors": (),
    "state_dir": None,
    "source": "auto",
    "history": False,
    "command_line": False,
}


def keywords(function: object) -> dict[str, object]:
    """Return the parameters with their defaults, of which none is positional."""
    assert callable(function)
    parameters = inspect.signature(function).parameters.values()
    assert {parameter.kind for parameter in parameters} == {inspect.Parameter.KEYWORD_ONLY}
    return {parameter.name: parameter.default for parameter in parameters}


def public_names(class_: type) -> set[str]:
    return {name for name in dir(class_) if not name.startswith("_")}


def test_package() -> None:
    assert set(otel_oom.__all__) == {
        *("CaptureError", "ConfigError", "Event", "Processor", "StoreError", "Watch", "watch"),
    }
    for name in otel_oom.__all__:
        assert getattr(otel_oom, name).__doc__ or name == "Processor"


def test_watch() -> None:
    assert keywords(otel_oom.watch) == WATCH
    assert public_names(otel_oom.Watch) == {"close"}


def test_event() -> None:
    assert {field.name for field in fields(otel_oom.Event) if field.name[0] != "_"} == {
        *("name", "uid", "time_unix_ns", "severity", "sentence", "attributes", "resource"),
    }
    methods = {"to_log_record", "to_readable_record", "to_span"}
    assert (
        public_names(otel_oom.Event) - {field.name for field in fields(otel_oom.Event)} == methods
    )


def test_oom_events() -> None:
    assert keywords(OomEvents) == EVENTS
    assert public_names(OomEvents) == {"start", "stop"}
    assert str(inspect.signature(OomEvents.start)) == "(self) -> 'None'"
    assert str(inspect.signature(OomEvents.stop)) == "(self, timeout_s: 'float' = 10.0) -> 'None'"


def test_import_of_the_package_loads_nothing_else() -> None:
    """The agent imports it too, and must not pay for the library."""
    code = "import sys, otel_oom; print([name for name in sys.modules if 'otel_oom.' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
