"""Whose limit was hit: the cgroup's or the host's, drawn with what used it up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from otel_oom.commands.console.page import Page
from otel_oom.model.units import MS_PER_S, format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent

_SCOPES: Final = {
    "own": "the victim's own cgroup",
    "pod": "the victim's pod",
    "ancestor": "a cgroup above the victim's",
    "host": "the host itself: it had no memory left",
}
_CONSTRAINTS: Final = {
    "cpuset": "on the nodes of the trigger's cpuset",
    "memory_policy": "on the nodes of the trigger's memory policy",
}
_NEARLY: Final = 0.9

# Those that do not overlap, in the order that they are drawn.
_PARTS: Final = {
    "anon": "anonymous",
    "file": "of files",
    "kernel": "kernel",
    "slab_unreclaimable": "kernel slabs",
    "sock": "sockets",
    "hugetlb": "huge pages",
}
_WITHIN: Final = {"shmem": "tmpfs, shared", "file_dirty": "to be written"}
"""What is part of the files' memory: drawn behind it where there is any."""
_EVENTS: Final = {
    "max": "its limit was hit {} times",
    "oom": "out of memory {} times",
    "oom_kill": "{} killed in it",
    "oom_group_kill": "{} times all of it",
    "high": "{} times slowed at memory.high",
}


def lines(record: DecodedEvent, layout: Page) -> Iterator[str]:
    """The section; empty where nothing is known of any limit."""
    values = record.attributes
    scope, path = values.text(semconv.LIMIT_SCOPE), values.text(semconv.LIMIT_MEMCG_PATH)
    host = values.numbers(semconv.HOST_MEMORY)
    if scope is None and path is None and not host:
        return
    yield from layout.heading("Whose limit was hit")
    whose = _SCOPES.get(scope or "") or _unknown(record)
    bound = _CONSTRAINTS.get(values.text(semconv.DECISION_CONSTRAINT) or "")
    yield from layout.row("limit of", ", ".join(filter(None, (whose, bound))), "bold")
    yield from layout.row("cgroup", path)
    yield from layout.row("unit", values.text(semconv.LIMIT_UNIT))
    setting, file = values.text(semconv.LIMIT_SETTING), values.text(semconv.LIMIT_FILE)
    yield from layout.row("set by", f"{setting} in {file}" if setting else None)
    if path is not None:
        yield from _memcg(record, layout)
    if scope in {"pod", "ancestor"}:
        yield from _own(record, layout)
    yield from _host(host, record, layout, hit=scope == "host")


def _unknown(record: DecodedEvent) -> str:
    """Where it can't be told how the limit's owner stands to the victim."""
    if record.attributes.text(semconv.LIMIT_MEMCG_PATH):
        return "a cgroup"
    of_memcg = record.attributes.text(semconv.DECISION_ORIGIN) == "memcg"
    return "a cgroup, of which it is not known which one" if of_memcg else "not known"


def _memcg(record: DecodedEvent, layout: Page) -> Iterator[str]:
    values = record.attributes
    limit, usage = (
        values.integer(semconv.LIMIT_MEMCG_LIMIT),
        values.integer(semconv.LIMIT_MEMCG_USAGE),
    )
    if limit is not None and usage is not None:
        yield from _usage(layout, "usage", usage, limit)
    after, parts = values.number(semconv.SNAPSHOT_DELAY), values.numbers(semconv.LIMIT_MEMCG_STAT)
    if after is not None and parts:
        # The victim may have let go of all of its own by then.
        yield from layout.row("made of", f"(read {after * MS_PER_S:.1f} ms after the mark)", "dim")
    yield from _made_of(parts, limit or usage or 0, layout)
    yield from layout.row("swap", _swap(record))
    yield from layout.row("so far", _told(values.numbers(semconv.LIMIT_MEMCG_EVENTS)))
    yield from layout.row("pressure", _pressure(values.numbers(semconv.LIMIT_MEMCG_PRESSURE)))


def _swap(record: DecodedEvent) -> str | None:
    values = record.attributes
    used = values.integer(semconv.LIMIT_MEMCG_SWAP_USAGE)
    most = values.integer(semconv.LIMIT_MEMCG_SWAP_LIMIT)
    host_has = values.numbers(semconv.HOST_MEMORY).get("swap_total")
    if used is None or host_has == 0:
        return None
    if not most:
        return f"{format_bytes(used)}, {'and it may have none' if most == 0 else 'without a limit'}"
    return f"{format_bytes(used)} of {format_bytes(most)} (of cgroup v1: memory and swap together)"


def _usage(layout: Page, label: str, usage: float, limit: float) -> Iterator[str]:
    share = f" ({usage / limit:.0%})" if limit else ""
    text = f"{format_bytes(int(usage))} of {format_bytes(int(limit))}{share}"
    yield from layout.bar(
        label, usage, limit, text, "red" if usage >= limit * _NEARLY else "yellow"
    )


def _made_of(parts: Mapping[str, float], whole: float, layout: Page) -> Iterator[str]:
    # The kernel's memory as a whole, or what of it is known by itself.
    within = {"slab_unreclaimable", "sock"} if "kernel" in parts else set()
    for name, label in {**_PARTS, **_WITHIN}.items():
        held = parts.get(name, 0)
        if held and name not in within:
            yield from layout.bar(f"  {label}"[:13], held, whole, format_bytes(int(held)))


def _own(record: DecodedEvent, layout: Page) -> Iterator[str]:
    """The victim's own cgroup, where that is another than the one whose limit was hit."""
    values = record.attributes
    usage, limit = values.integer(semconv.MEMCG_USAGE), values.integer(semconv.MEMCG_LIMIT)
    if usage is None:
        return
    own = (
        f"{format_bytes(usage)} of its own limit of {format_bytes(limit)}"
        if limit
        else f"{format_bytes(usage)}, no limit"
    )
    yield from layout.row("victim's own", own)


def _host(
    host: Mapping[str, float], record: DecodedEvent, layout: Page, *, hit: bool
) -> Iterator[str]:
    total, available = host.get("total"), host.get("available")
    if not total or available is None:
        return
    text = f"{format_bytes(int(available))} of {format_bytes(int(total))} were available"
    yield from layout.bar("host", total - available, total, text, *(("red",) if hit else ()))
    if hit:
        yield from _made_of(host, total, layout)
        swap_total, free = host.get("swap_total"), host.get("swap_free")
        if swap_total and free is not None:
            yield from _usage(layout, "swap", swap_total - free, swap_total)
        yield from layout.row(
            "pressure", _pressure(record.attributes.numbers(semconv.HOST_PRESSURE))
        )


def _told(events: Mapping[str, float]) -> str:
    told = [text.format(int(events[name])) for name, text in _EVENTS.items() if events.get(name)]
    return ", ".join(told)


def _pressure(shares: Mapping[str, float]) -> str | None:
    some, full = shares.get("some.avg10"), shares.get("full.avg10")
    if some is None or full is None:
        return None
    return (
        f"in the 10 s before, some waited for memory {some:g} % of the time, all at once {full:g} %"
    )
