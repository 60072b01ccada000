"""Write the generated parts of docs/, each between two markers (`make docs`).

With --check nothing is written: the exit code is 1 while a page is stale.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import yaml
from rich.console import RenderableType

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from otel_oom import cli  # noqa: E402  the path comes first
from otel_oom.commands.console.output import new_console, render  # noqa: E402  likewise
from otel_oom.commands.history.page import render_event  # noqa: E402  likewise
from otel_oom.commands.history.table import render_events  # noqa: E402  likewise
from otel_oom.enrich.event import enrich_kill, enrich_missed_kills, enrich_no_victim  # noqa: E402  likewise
from otel_oom.enrich.types import EnrichedKill, VictimOutcome  # noqa: E402  likewise
from otel_oom.model.loss import MissedKills  # noqa: E402  likewise
from otel_oom.otlp.encode import encode_log  # noqa: E402  likewise
from tests.testlib.page_block import replace_block  # noqa: E402  likewise
from tests.testlib.samples import events, history, kernel_logs, log_producers  # noqa: E402  likewise

REGISTRY: Final = ROOT / "otel_oom/otlp/registry.yaml"
_SAMPLE_WIDTH: Final = 110
_SEMCONV: Final = "https://opentelemetry.io/docs/specs/semconv/registry/attributes"
_SUBPARSERS: Final = argparse._SubParsersAction  # noqa: SLF001  argparse has no public way in

Group = Mapping[str, Any]


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
    yield from _commands("otel-oom", cli.build_parser())


def _commands(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001  as above
        if isinstance(action, _SUBPARSERS):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001  as above
            for command, child in action.choices.items():
                yield from _command(f"{name} {command}", helps[command], child)
                yield from _commands(f"{name} {command}", child)


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    actions = [
        action
        for action in parser._actions  # noqa: SLF001  as above
        if not isinstance(action, (_SUBPARSERS, argparse._HelpAction))  # noqa: SLF001  as above
    ]
    yield f"\n## `{name}`\n\n{text[:1].upper()}{text[1:]}."
    if actions:
        rows = [(f"`{_words(action)}`", action.help or "") for action in actions]
        yield from ("", *_table(("argument", "meaning"), rows))


def _words(action: argparse.Action) -> str:
    value = action.metavar or (action.choices and f"{{{','.join(action.choices)}}}") or ""
    if not action.option_strings:
        return f"{value}{' …' if action.nargs in {'*', '+'} else ''}"
    return f"{', '.join(action.option_strings)} {value if action.nargs != 0 else ''}".strip()


def telemetry() -> Iterator[str]:
    """Yield a table for each event, span and resource of the registry, and one of the metrics."""
    groups = yaml.safe_load(REGISTRY.read_text(encoding="utf-8"))["groups"]
    defined = {
        attribute["id"]: attribute
        for group in groups
        for attribute in group.get("attributes", ())
        if "id" in attribute
    }
    for group in groups:
        if title := _title(group):
            yield f"\n## {title}\n\n{_sentences(group)}"
            if rows := [_attribute(use, defined) for use in group.get("attributes", ())]:
                yield from ("", *_table(("attribute", "type", "meaning", "present"), rows))
    yield "\n## Metrics\n"
    metrics = [group for group in groups if group["type"] == "metric"]
    yield from _table(
        ("metric", "instrument", "unit", "meaning", "attributes"), map(_metric, metrics)
    )
    yield "\n## Notes\n"
    for name, attribute in defined.items():
        if "note" in attribute:
            yield f"- `{name}`: {_line(attribute['note'])}"


def _title(group: Group) -> str:
    """Name the section of a group; metrics and definitions have none of their own."""
    uses = {use.get("ref") for use in group.get("attributes", ())}
    match group["type"]:
        case "event":
            return f"{'Log' if 'log.record.uid' in uses else 'Span'} event `{group['name']}`"
        case "span":
            return f"Span `{group['id'].removeprefix('span.')}`"
        case "attribute_group" if None not in uses:
            return str(group["display_name"])
        case _:
            return ""


def _attribute(use: Group, defined: Mapping[str, Group]) -> tuple[str, ...]:
    name = use["ref"]
    level = use.get("requirement_level", "recommended")
    present = level["conditionally_required"] if isinstance(level, dict) else _LEVELS[level]
    if name in defined:
        return f"`{name}`", f"{defined[name]['type']}", _line(defined[name]["brief"]), present
    area = name.partition(".")[0]
    return f"`{name}`", f"[OTel]({_SEMCONV}/{area}/)", _line(_conventions(area)[name]), present


_LEVELS: Final = {"required": "always", "recommended": "if known", "opt_in": "on request"}


@cache
def _conventions(area: str) -> Mapping[str, str]:
    """Return the first sentence that OpenTelemetry's package has for each name of ``area``."""
    texts: dict[str, str] = {}
    # The stable names come last: the others only refer to them.
    for package in ("_incubating.attributes", "attributes"):
        with suppress(ModuleNotFoundError):
            module = importlib.import_module(f"opentelemetry.semconv.{package}.{area}_attributes")
            texts |= _documented_constants(inspect.getsource(module))
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


def message_formats() -> Iterator[str]:
    """Yield the table of the formats in which kernels log a kill."""
    yield kernel_logs.format_table()


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
    return _sample(render_event(entry, [entry]))


def _enriched_sample() -> EnrichedKill:
    kill = events.sample_kill()
    stored_unix_ns = kill.time_unix_ns + 1_000_000
    outcome = VictimOutcome(events.EXIT)
    return enrich_kill(kill, events.SNAPSHOT, outcome, stored_unix_ns, events.HOST)


def _sample(elements: Iterable[RenderableType]) -> Iterator[str]:
    yield "```"
    yield from render(elements, new_console(_SAMPLE_WIDTH)).splitlines()
    yield "```"


PAGES: Final[Mapping[str, Mapping[str, Callable[[], Iterator[str]]]]] = {
    "docs/cli.md": {"parser": command_line},
    "docs/history.md": {"events": events_sample, "show": event_sample},
    "docs/telemetry.md": {"registry": telemetry},
    "docs/kernels.md": {"message-formats": message_formats},
    "docs/replay.md": {"producers": producers},
}
"""The blocks of each page by name, with the functions that yield their lines."""


if __name__ == "__main__":
    sys.exit(main())
