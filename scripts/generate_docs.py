"""Write the generated parts of docs/, each between two markers (`make docs`).

With --check nothing is written: the exit code is 1 while a page is stale.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

from msgspec.structs import replace
from rich.console import RenderableType

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from otel_oom import cli  # noqa: E402  the path comes first
from otel_oom.commands.console.elements import render_page  # noqa: E402  likewise
from otel_oom.commands.console.output import new_console, render  # noqa: E402  likewise
from otel_oom.commands.history.event_row import event_cells  # noqa: E402  likewise
from otel_oom.commands.history.page import describe_event  # noqa: E402  likewise
from otel_oom.commands.history.report.page import describe_report  # noqa: E402  likewise
from otel_oom.commands.history.report.summary import HOUR_S, Summary  # noqa: E402  likewise
from otel_oom.commands.history.table import render_events  # noqa: E402  likewise
from otel_oom.config.standard_variables import STANDARD_VARIABLES, StandardVariable  # noqa: E402  likewise
from otel_oom.enrich.event import enrich_kill, enrich_missed_kills, enrich_no_victim  # noqa: E402  likewise
from otel_oom.enrich.types import EnrichedKill, VictimOutcome  # noqa: E402  likewise
from otel_oom.model.loss import MissedKills  # noqa: E402  likewise
from otel_oom.model.units import NS_PER_S  # noqa: E402  likewise
from otel_oom.otlp.encode import encode_log  # noqa: E402  likewise
from scripts.command_line import list_commands  # noqa: E402  likewise
from scripts.public_api import describe_api  # noqa: E402  likewise
from tests.testlib.page_block import replace_block  # noqa: E402  likewise
from tests.testlib.registry import (  # noqa: E402  likewise
    Attribute,
    Group,
    Registry,
    convention_sources,
    load_registry,
)
from tests.testlib.samples import (  # noqa: E402  likewise
    daemon_messages,
    events,
    history,
    kernel_logs,
    log_locales,
    log_producers,
    stack_formats,
)

_SAMPLE_WIDTH: Final = 110
_SEMCONV: Final = "https://opentelemetry.io/docs/specs/semconv/registry/attributes"


def main(words: Sequence[str] | None = None) -> int:
    """Write stale pages, or only name them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 while one is stale")
    check = parser.parse_args(words).check
    stale = [page for page in PAGES if generate(page) != _read(page)]
    for page in stale:
        if check:
            sys.stderr.write(f"{page} is stale: run make docs\n")
        else:
            (ROOT / page).write_text(generate(page), encoding="utf-8")
            sys.stderr.write(f"{page}: written\n")
    return int(check and bool(stale))


def generate(page: str) -> str:
    """Return the text of ``page`` with its generated part up to date."""
    text = _read(page)
    for name, content in PAGES[page].items():
        text = replace_block(text, name, "\n".join(content()))
    return text


def _read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def command_line() -> Iterator[str]:
    """Yield a section for each command, with a row for each of its options."""
    yield "\nEach command has `--help`. `otel-oom --version` prints the version."
    for command in list_commands("otel-oom", cli.build_parser()):
        yield f"\n## `{command.name}`\n\n{command.sentence}"
        if command.arguments:
            rows = [(f"`{words}`", meaning) for words, meaning in command.arguments]
            yield from ("", *_table(("argument", "meaning"), rows))


def telemetry() -> Iterator[str]:
    """Yield a table for each event, span and resource of the registry, and one of the metrics."""
    registry = load_registry()
    for group in sorted(registry.groups.values(), key=lambda each: "display_name" in each):
        if title := _title(group, registry):
            yield f"\n## {title}\n\n{_sentences(group)}"
            if rows := list(_attributes(group, registry)):
                yield from ("", *_table(("attribute", "type", "meaning", "present"), rows))
    yield "\n## Metrics\n"
    metrics = [group for group in registry.groups.values() if group["type"] == "metric"]
    yield from _table(
        ("metric", "instrument", "unit", "meaning", "attributes"), map(_metric, metrics)
    )
    yield "\n## Notes\n"
    for name, attribute in registry.attributes.items():
        members = [f"`{value}`: {_line(brief)}" for value, brief in attribute.members.items()]
        if notes := [text for text in (_line(attribute.note), *members) if text[-1:] == "."]:
            yield f"- `{name}`: {' '.join(notes)}"


def _title(group: Group, registry: Registry) -> str:
    """Name the section of a group; metrics and definitions have none of their own."""
    uses = registry.uses(group["id"])
    match group["type"]:
        case "event":
            return f"{'Log' if 'log.record.uid' in uses else 'Span'} event `{group['name']}`"
        case "span":
            return f"Span `{group['id'].removeprefix('span.')}`"
        case "attribute_group" if uses and "display_name" in group:
            return str(group["display_name"])
        case _:
            return ""


def _attributes(group: Group, registry: Registry) -> Iterator[tuple[str, ...]]:
    """Yield a row for each attribute, the required ones first.

    A span has the attributes of its log event as well: the table has the others alone.
    """
    levels = {name: _present(level) for name, level in registry.uses(group["id"]).items()}
    if group["type"] == "span":
        levels = {use["ref"]: levels[use["ref"]] for use in group["attributes"]}
    for name in sorted(levels, key=lambda each: (levels[each] == _LEVELS["recommended"], each)):
        if attribute := registry.attributes.get(name):
            yield f"`{name}`", attribute.type, _meaning(attribute), levels[name]
        else:
            area = name.partition(".")[0]
            text = _line(_conventions(area)[name])
            yield f"`{name}`", f"[OTel]({_SEMCONV}/{area}/)", text, levels[name]


def _meaning(attribute: Attribute) -> str:
    brief = _line(attribute.brief)
    if not attribute.members:
        return brief
    *others, last = (f"`{value}`" for value in attribute.members)
    return f"{brief.removesuffix('.')}: {', '.join(others)} or {last}."


_LEVELS: Final = {"required": "always", "recommended": "if known", "opt_in": "on request"}


def _present(level: str | Group) -> str:
    return _LEVELS[level] if isinstance(level, str) else str(level["conditionally_required"])


@cache
def _conventions(area: str) -> Mapping[str, str]:
    """Return the first sentence that OpenTelemetry's package has for each name of ``area``."""
    texts: dict[str, str] = {}
    for source in convention_sources(area):
        texts |= _documented_constants(source)
    return texts


def _documented_constants(source: str) -> Iterator[tuple[str, str]]:
    """Yield each constant of a module with the first sentence of the text behind it."""
    for constant, text in pairwise(ast.parse(source).body):
        match constant, text:
            case (
                ast.AnnAssign(value=ast.Constant(value=name)),
                ast.Expr(value=ast.Constant(value=doc)),
            ):
                sentence = re.split(r"\n|(?<=\.) (?=[A-Z])", str(doc).strip())[0]
                yield str(name), re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", sentence)


def _metric(group: Group) -> tuple[str, ...]:
    names = ", ".join(f"`{use['ref']}`" for use in group.get("attributes", ()))
    name, unit = f"`{group['metric_name']}`", f"`{group['unit']}`"
    return name, group["instrument"], unit, _sentences(group), names


_PROPOSED: Final = (
    *("event.oom.kill", "event.oom.victim.exited", "event.oom.victim.alive"),
    *("event.oom.no_victim", "event.oom.panic", "span.oom.kill"),
)
_NOT_PROPOSED: Final = (
    *("oom.capture.", "oom.service.", "oom.advice", "oom.cause", "oom.report.", "oom.enrichment."),
    *(
        "log.file.",
        "oom.log.",
        "oom.time.",
        "oom.container.",
        "oom.snapshot.",
        "oom.decision.source",
    ),
)
_PROPOSED_LEVELS: Final = {"always": "Required", "if known": "Recommended"}


def proposal() -> Iterator[str]:
    """Yield a table of attributes with requirement levels for each event, the span, the metric."""
    registry = load_registry()
    for id_ in _PROPOSED:
        group = registry.groups[id_]
        yield f"\n### {_title(group, registry)}\n\n{_line(group['brief'])}\n"
        rows = (
            (name, type_, _PROPOSED_LEVELS.get(present, f"Conditionally required: {present}"), text)
            for name, type_, text, present in _attributes(group, registry)
            if not name.strip("`").startswith(_NOT_PROPOSED)
        )
        yield from _table(("attribute", "type", "requirement level", "meaning"), rows)
    yield "\n### Metric `oom.kills`\n"
    metric = _metric(registry.groups["metric.oom.kills"])
    yield from _table(("metric", "instrument", "unit", "meaning", "attributes"), [metric])


def message_formats() -> Iterator[str]:
    """Yield the table of the formats in which kernels log a kill."""
    yield kernel_logs.format_table()


def stack_frames() -> Iterator[str]:
    """Yield the table of the formats in which architectures print a stack."""
    yield stack_formats.format_table()


def daemon_formats() -> Iterator[str]:
    """Yield the table of the messages in which userspace OOM daemons report a kill."""
    yield from daemon_messages.format_daemon_table()


def daemon_producers() -> Iterator[str]:
    """Yield the programs that keep the logs of userspace OOM daemons."""
    yield from daemon_messages.format_daemon_producers()


def date_locales() -> Iterator[str]:
    """Yield the table of the languages in which dates are tested."""
    yield from log_locales.format_table()


def producers() -> Iterator[str]:
    """Yield a list of the programs whose logs are read."""
    yield from (f"- {name}" for name in log_producers.PRODUCERS)


def _sentences(group: Group) -> str:
    return _line(f"{group['brief']} {group.get('note', '')}")


def _line(text: str) -> str:
    return " ".join(text.split())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def standard_variables() -> Iterator[str]:
    """Yield a row for each kind of OpenTelemetry's variables."""
    rows = ((_names(each), each.use.value, each.note) for each in STANDARD_VARIABLES)
    yield from _table(("variable", "", "note"), rows)


def _names(variable: StandardVariable) -> str:
    general, *others = variable.names
    option = general.removeprefix("OTEL_EXPORTER_OTLP_")
    if others and all(name.endswith(f"S_{option}") for name in others):
        return f"`{general}`, and of each signal"
    return ", ".join(f"`{name}`" for name in variable.names)


def events_sample() -> Iterator[str]:
    """Yield what `otel-oom events` prints of sample events."""
    kill, no_victim = events.KILL, events.NO_VICTIM
    missed = MissedKills(
        boot_id=kill.boot_id,
        boottime_ns=kill.boottime_ns,
        time_unix_ns=kill.time_unix_ns,
        count=3,
        kernel_count=9,
        reason="unknown",
    )
    entries = [
        history.entry(_enriched_sample()),
        history.log_entry(encode_log(enrich_no_victim(no_victim, 0, events.HOST))),
        history.log_entry(encode_log(enrich_missed_kills(missed, 0, events.HOST))),
    ]
    return _sample([render_events(entries)])


def event_sample() -> Iterator[str]:
    """Yield what `otel-oom show` prints of the sample kill."""
    entry = history.entry(_enriched_sample())
    return _sample(render_page(describe_event(entry, [entry])))


def report_sample() -> Iterator[str]:
    """Yield what `otel-oom report` prints of three kills."""
    kill = events.KILL
    times_ns = [kill.time_unix_ns + hours * HOUR_S * NS_PER_S for hours in (0, 1, 26)]
    summary = Summary(times_ns[0], times_ns[-1] + HOUR_S * NS_PER_S)
    entries = [
        history.entry(
            enrich_kill(
                replace(kill, time_unix_ns=time_ns, boottime_ns=kill.boottime_ns + index),
                events.SNAPSHOT,
                VictimOutcome(events.EXIT),
                time_ns,
                events.HOST,
            )
        )
        for index, time_ns in enumerate(times_ns)
    ]
    for entry in entries:
        summary.add(entry.event)
    return _sample(render_page(describe_report(summary, list(map(event_cells, entries)))))


def _enriched_sample() -> EnrichedKill:
    kill = events.sample_kill()
    stored_unix_ns = kill.time_unix_ns + 1_000_000
    outcome = VictimOutcome(events.EXIT)
    return enrich_kill(kill, events.SNAPSHOT, outcome, stored_unix_ns, events.HOST)


def _sample(elements: Iterable[RenderableType]) -> Iterator[str]:
    yield "```"
    yield from render(elements, new_console(_SAMPLE_WIDTH)).splitlines()
    yield "```"


def library_example() -> Iterator[str]:
    """Yield the example without its docstring."""
    _, _, code = _read("examples/library.py").split('"""')
    yield f"```python\n{code.strip()}\n```"


PAGES: Final[Mapping[str, Mapping[str, Callable[[], Iterator[str]]]]] = {
    "docs/cli.md": {"parser": command_line},
    "docs/configuration.md": {"standard-variables": standard_variables},
    "docs/history.md": {"events": events_sample, "show": event_sample, "report": report_sample},
    "docs/library.md": {"example": library_example, "api": describe_api},
    "docs/telemetry.md": {"registry": telemetry},
    "docs/proposal.md": {"proposal": proposal},
    "docs/kernels.md": {
        "message-formats": message_formats,
        "stack-formats": stack_frames,
        "date-locales": date_locales,
        "daemon-formats": daemon_formats,
        "daemon-producers": daemon_producers,
    },
    "docs/replay.md": {"producers": producers},
}
"""The blocks of each page by name, with the functions that yield their lines."""


if __name__ == "__main__":
    sys.exit(main())
