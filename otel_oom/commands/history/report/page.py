"""The report as a page: hours, services, limits, repeats, and the newest kills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from otel_oom.commands.elements import (
    HOURS,
    Element,
    Fact,
    Head,
    HourGrid,
    Page,
    Paragraph,
    Section,
    Table,
)
from otel_oom.commands.history import labels
from otel_oom.commands.history.event_row import EVENT_HEADS
from otel_oom.commands.history.report.repeats import count_in_an_hour
from otel_oom.commands.history.report.summary import HOUR_S, KillGroup, Summary
from otel_oom.model.units import DAY_S, NS_PER_S, format_bytes
from otel_oom.otlp import semconv

_MAX_ROWS: Final = 20
_MAX_DAYS: Final = 31
_KILLS: Final = Head("KILLS", right=True)
_LAST: Final = Head("LAST", short=True)
_SERVICE_HEADS: Final = (
    *(Head("SERVICE", flexible=True), _KILLS, Head("LARGEST", right=True), _LAST),
)
_LIMIT_HEADS: Final = (Head("LIMIT OF", path=True), Head("SIZE", right=True), _KILLS, _LAST)
_REPEAT_HEADS: Final = (
    *(Head("OWNER", flexible=True), Head("VICTIM", flexible=True), _KILLS),
    *(Head("IN 1 HOUR", right=True), Head("FIRST", short=True), _LAST),
)
_OTHER_EVENTS: Final = {
    semconv.EVENT_NO_VICTIM: "out of memory without a killable process",
    semconv.EVENT_NEAR_LIMIT: "approaches of a limit",
    semconv.EVENT_PANIC: "kernel panics",
    semconv.EVENT_MISSED: "missed kills",
    semconv.EVENT_DROPPED: "dropped kills",
}


def describe_report(summary: Summary, newest: Sequence[tuple[str, ...]]) -> Page:
    """Return the page; ``newest`` are rows of events, the newest last."""
    sections = (
        _hours(summary),
        _services(summary),
        _limits(summary),
        _repeats(summary),
        _events(summary, newest),
    )
    time = f"{labels.format_time(summary.since_ns)} to {labels.format_time(summary.until_ns)}"
    return Page(
        title="OOM report",
        subject=summary.host,
        time=time,
        sentence=_sentence(summary),
        sections=tuple(section for section in sections if section),
        summary=tuple(_facts(summary)),
        hint="Details of one: otel-oom show UID",
    )


def _sentence(summary: Summary) -> str:
    count = summary.kill_count
    if not count:
        return "No OOM kills."
    services, repeated = len(summary.services), len(_repeated(summary))
    kills = "1 OOM kill" if count == 1 else f"{count} OOM kills"
    owners = "1 service" if services == 1 else f"{services} services"
    again = f"; {repeated} of the victims died more than once" if repeated else ""
    return f"{kills} of {owners}{again}."


def _facts(summary: Summary) -> Iterator[Fact]:
    """Yield the number of kills of each outcome, and of the other events."""
    yield from (Fact(name, str(count)) for name, count in summary.outcomes.most_common())
    for name, count in sorted(summary.other_events.items()):
        yield Fact(_OTHER_EVENTS.get(name, name), str(count))


def _hours(summary: Summary) -> Section | None:
    if not summary.hours:
        return None
    first, last = (ns // NS_PER_S // DAY_S for ns in (summary.since_ns, summary.until_ns))
    days: Sequence[int] = range(first, last + 1)
    if len(days) > _MAX_DAYS:
        days = sorted({hour // DAY_S for hour in summary.hours})[-_MAX_DAYS:]
    counts = tuple(
        tuple(summary.hours[day * DAY_S + hour * HOUR_S] for hour in range(HOURS)) for day in days
    )
    names = tuple(f"{datetime.fromtimestamp(day * DAY_S, UTC):%Y-%m-%d}" for day in days)
    return Section("hours", "Kills by hour (UTC)", (HourGrid(names, counts),))


def _services(summary: Summary) -> Section | None:
    ranked = _rank(summary.services)
    rows = [
        (service, str(group.count), _size(group.largest_bytes), _time(max(group.times_ns)))
        for service, group in ranked
    ]
    return _section("services", "By service", _SERVICE_HEADS, rows, [g for _, g in ranked])


def _limits(summary: Summary) -> Section | None:
    ranked = _rank(summary.limits)
    rows = [
        (owner, _size(size), str(group.count), _time(max(group.times_ns)))
        for (owner, size), group in ranked
    ]
    return _section("limits", "By limit", _LIMIT_HEADS, rows, [g for _, g in ranked])


def _repeats(summary: Summary) -> Section | None:
    ranked = _rank(_repeated(summary))
    rows = [
        (
            *key,
            str(group.count),
            str(count_in_an_hour(sorted(group.times_ns))),
            _time(min(group.times_ns)),
            _time(max(group.times_ns)),
        )
        for key, group in ranked
    ]
    return _section("repeats", "Repeats", _REPEAT_HEADS, rows, [g for _, g in ranked])


def _repeated(summary: Summary) -> dict[tuple[str, str], KillGroup]:
    return {key: group for key, group in summary.repeats.items() if group.count > 1}


def _events(summary: Summary, newest: Sequence[tuple[str, ...]]) -> Section | None:
    if not newest:
        return None
    total = summary.kill_count + summary.other_events.total()
    title = "Events" if len(newest) == total else f"The newest {len(newest)} events"
    return Section("kills", title, (Table(EVENT_HEADS, tuple(newest)),))


_Key = TypeVar("_Key")


def _rank(groups: Mapping[_Key, KillGroup]) -> list[tuple[_Key, KillGroup]]:
    """Return the groups by their number of kills, then by their last one."""
    return sorted(
        groups.items(), key=lambda item: (item[1].count, max(item[1].times_ns)), reverse=True
    )


def _section(
    name: str,
    title: str,
    heads: tuple[Head, ...],
    rows: Sequence[tuple[str, ...]],
    groups: Sequence[KillGroup],
) -> Section | None:
    if not rows:
        return None
    largest = groups[0].count
    shares = tuple(group.count / largest for group in groups[:_MAX_ROWS])
    elements: list[Element] = [
        Table(heads, tuple(rows[:_MAX_ROWS]), bar_column=heads.index(_KILLS), shares=shares)
    ]
    if rows[_MAX_ROWS:]:
        elements.append(Paragraph(f"{len(rows) - _MAX_ROWS} more.", "muted"))
    return Section(name, title, tuple(elements))


def _size(count: int | None) -> str:
    return "-" if count is None else format_bytes(count)


def _time(unix_ns: int) -> str:
    return labels.format_time(unix_ns)
