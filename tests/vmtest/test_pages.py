"""The HTML pages of real kills in a guest, looked at in a real browser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from msgspec import convert
from msgspec.structs import replace

from otel_oom.commands.history.entry import Entry
from otel_oom.commands.history.page import describe_event
from otel_oom.commands.html.output import write_page
from otel_oom.enrich.event import enrich_kill, enrich_panic
from otel_oom.enrich.types import VictimOutcome
from otel_oom.model.events import OomKill, Panic
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp.encode import encode_log
from tests.testlib.browser.plugin import CheckedPage
from tests.testlib.samples import history
from tests.testlib.samples.events import HOST
from tests.vmtest.boots import Boots, needs_guest
from tests.vmtest.machine import Machine, Panics, boot_machine
from tests.vmtest.scenario_result import ScenarioResult
from tests.vmtest.test_cause import completed_kills

_KERNEL: Final = "6.12"


@pytest.fixture(params=[pytest.param(_KERNEL, marks=needs_guest(boot_machine, _KERNEL))])
def machine(boots: Boots, request: pytest.FixtureRequest) -> Machine:
    """Return the results of a machine with that kernel."""
    machine: Machine = boots.result((boot_machine, request.param))
    return machine


def list_kills(result: ScenarioResult) -> list[tuple[OomKill, Entry]]:
    """Return the kills of a scenario, and as the agent would have stored them."""
    events = result.events["libbpf"]
    kills = []
    for number, (kill, snapshot, scanned) in enumerate(completed_kills(result), start=1):
        exits = [exit_ for exit_ in events.exits if exit_.tgid == kill.victim.tgid]
        steps = tuple(step for step in events.reaper_steps if step.tgid == kill.victim.tgid)
        outcome = VictimOutcome(exits[0] if exits else None, steps)
        # A picture has no paths of the machine on which the tests run.
        victim = replace(kill.victim, executable=None)
        listed = replace(kill, victim=victim, tasks=kill.tasks or scanned)
        anonymous = replace(snapshot, executable=None)
        enriched = enrich_kill(listed, anonymous, outcome, kill.time_unix_ns + 2_000_000, HOST)
        kills.append((kill, history.entry(enriched, number)))
    return kills


def write(folder: Path, entry: Entry, group: Sequence[Entry]) -> Path:
    """Write the page to a file."""
    page = folder / "page.html"
    write_page(describe_event(entry, group), str(page))
    return page


@pytest.mark.parametrize(
    ("scenario", "texts"),
    [
        ("group", ["Killed together (memory.oom.group): 3", "this page"]),
        ("host", ["the host: out of memory", "pressure"]),
        ("swap", ["swap", "in swap"]),
        ("hostile", ["x) a\\n\\\\x1b[31m\\xff"]),
    ],
)
def test_page_of_a_kill(
    machine: Machine, look_at: CheckedPage, tmp_path: Path, scenario: str, texts: list[str]
) -> None:
    """The kernel's own line has the victim, its memory, and the limit that was hit."""
    result = ScenarioResult.from_json(machine.scenarios.results["scenarios"][scenario])
    kills = list_kills(result)
    kill, entry = kills[0]
    group = [each for _, each in kills] if scenario == "group" else [entry]
    measures = look_at(write(tmp_path, entry, group), None if scenario == "hostile" else scenario)
    content = measures["content"]
    for text in ("victim exited, by signal 9", *texts):
        assert text in content
    assert f"pid {result.line(kill).pid}" in content


def test_page_of_a_panic(machine: Machine, look_at: CheckedPage, tmp_path: Path) -> None:
    """The message of the kernel's panic."""
    assert isinstance(machine.panics, Panics), machine.panics
    for value in machine.panics.records["events"]:
        event = convert(value, Panic)
        entry = history.log_entry(
            encode_log(enrich_panic(event, event.time_unix_ns + 60 * NS_PER_S, HOST))
        )
        picture = "panic" if "system-wide" in (event.message or "") else None
        measures = look_at(write(tmp_path, entry, [entry]), picture)
        assert measures["headings"][0] == "Kernel panic: out of memory"
        assert re.search(r"Out of memory: .* panic_on_oom is enabled", measures["text"])
