"""The probe of hooks against real loads: what it refuses, a load refuses too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from otel_oom.capture.bpf import loader
from otel_oom.capture.bpf.hook_probe import find_refusal
from otel_oom.capture.bpf.libbpf import Libbpf, LibbpfError
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.source import LibbpfSource


@contextmanager
def open_programs(library: Libbpf, programs: tuple[str, ...]) -> Iterator[BpfObject]:
    """Open the object with these programs alone."""
    opened = BpfObject(library, loader.OBJECT)
    try:
        for program in (
            *loader._OUTCOME_PROGRAMS,  # noqa: SLF001  all that a load would add
            *loader._ALTERNATIVE_PROGRAMS,  # noqa: SLF001  likewise
            *loader._OTHER_PROGRAMS,  # noqa: SLF001  likewise
            loader.DAEMON_SIGNAL,
        ):
            if program not in programs:
                opened.skip(program)
        yield opened
    finally:
        opened.close()


def can_attach(library: Libbpf, hook: str) -> bool:
    """Return whether the kernel loads and attaches the first program of a decision's hook."""
    program = loader.DECISION_HOOKS[hook][0]
    with open_programs(library, (program,)) as opened:
        try:
            opened.load()
            opened.attach(program)
        except LibbpfError:
            return False
        return True


@pytest.mark.parametrize("hook", [hook for hook in loader.DECISION_HOOKS if hook])
def test_a_hook_is_refused_if_and_only_if_a_load_is(hook: str) -> None:
    library = Libbpf()
    assert (find_refusal(library, hook) is None) == can_attach(library, hook)


def test_the_start_loads_the_programs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[BpfObject] = []
    load = BpfObject.load

    def count_load(opened: BpfObject) -> None:
        loads.append(opened)
        load(opened)

    monkeypatch.setattr(BpfObject, "load", count_load)
    with LibbpfSource():
        assert len(loads) == 1
