"""`OTEL_OOM_EXCLUDE` and its like: rules, names, and processors of installed packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from otel_oom.config.filters import NO_FILTERS, EventRule, read_filters
from otel_oom.config.variable import ConfigError


def test_nothing_is_filtered_by_default() -> None:
    assert read_filters({}) == NO_FILTERS
    assert read_filters({"OTEL_OOM_EXCLUDE": " ; ", "OTEL_OOM_PROCESSORS": " , "}) == NO_FILTERS


def test_a_rule_has_conditions_and_a_variable_has_rules() -> None:
    filters = read_filters(
        {
            "OTEL_OOM_EXCLUDE": "cgroup=/kubepods*, comm=chrome* ; scope=host",
            "OTEL_OOM_INCLUDE": "comm=a%2Cb%3Bc%3D",
            "OTEL_OOM_DROP_ATTRIBUTES": "oom.request.*_stack, log.record.original,,",
        }
    )
    assert filters.exclude == (EventRule("/kubepods*", "chrome*"), EventRule(scope="host"))
    assert filters.include == (EventRule(comm="a,b;c="),)
    assert filters.dropped_attributes == ("oom.request.*_stack", "log.record.original")


@pytest.mark.parametrize(
    "text",
    ["chrome*", "comm=", "name=a", "comm=a,comm=b", "scope=Host", "scope=pod*", "comm=a;;x", "=a"],
)
def test_a_wrong_rule_is_an_error_that_names_the_right_form(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_filters({"OTEL_OOM_EXCLUDE": text})
    message = str(caught.value)
    assert message.startswith(f"OTEL_OOM_EXCLUDE={text!r} is invalid: use rules such as cgroup=")
    assert "own, pod, ancestor, host" in message
    with pytest.raises(ConfigError, match="OTEL_OOM_INCLUDE"):
        read_filters({"OTEL_OOM_INCLUDE": text})


def redact(event: object) -> object:
    return event


class Redactor:
    def __call__(self, event: object) -> object:
        return event


def install(monkeypatch: pytest.MonkeyPatch, **targets: str) -> None:
    entries = [EntryPoint(name, target, "otel_oom_processor") for name, target in targets.items()]

    def entry_points(*, group: str) -> EntryPoints:
        return EntryPoints(entry for entry in entries if entry.group == group)

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)


def test_processors_are_functions_or_classes_in_the_order_of_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, a=f"{__name__}:redact", b=f"{__name__}:Redactor")
    processors = read_filters({"OTEL_OOM_PROCESSORS": "b, a"}).processors
    assert list(processors) == ["b", "a"]
    assert type(processors["b"]).__name__ == "Redactor"
    assert processors["a"].__name__ == "redact"


def test_a_processor_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, a=f"{__name__}:redact")
    with pytest.raises(ConfigError, match="OTEL_OOM_PROCESSORS='a,b' is invalid: use a list of a"):
        read_filters({"OTEL_OOM_PROCESSORS": "a,b"})
    install(monkeypatch)
    with pytest.raises(ConfigError, match="none is installed"):
        read_filters({"OTEL_OOM_PROCESSORS": "a"})


def test_a_processor_that_can_not_be_loaded_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, a="no_such_module:redact")
    with pytest.raises(ConfigError, match="a can't be loaded: ModuleNotFoundError: No module"):
        read_filters({"OTEL_OOM_PROCESSORS": "a"})
