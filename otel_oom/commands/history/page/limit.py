"""The limit that was hit, of a cgroup or of the host, with a breakdown of its usage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from rich.console import RenderableType

from otel_oom.commands.console import page
from otel_oom.model.units import MS_PER_S, format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent

_SCOPES: Final = {
    "own": "the victim's own cgroup",
    "pod": "the victim's pod",
    "ancestor": "a cgroup above the victim's",
    "host": "the host: out of memory",
}
_CONSTRAINTS: Final = {
    "cpuset": "on the nodes of the trigger's cpuset",
    "memory_policy": "on the nodes of the trigger's memory policy",
}
_ALMOST_FULL: Final = 0.9

# Kinds of memory that do not overlap, in the order of their bars.
_PARTS: Final = {
    "anon": "anonymous",
    "file": "of files",
    "kernel": "kernel",
    "slab_unreclaimable": "slabs",
    "sock": "sockets",
    "hugetlb": "huge pages",
}
_PARTS_OF_FILES: Final = {"shmem": "tmpfs, shm", "file_dirty": "dirty"}
_EVENTS: Final = {
    "max": "limit hit {} times",
    "oom": "out of memory {} times",
    "oom_kill": "{} killed",
    "oom_group_kill": "killed as a group {} times",
    "high": "throttled {} times at memory.high",
}


def render_limit(event: DecodedEvent) -> Iterator[RenderableType]:
    """Yield the section; nothing if no limit is known."""
    attributes = event.attributes
    scope, path = attributes.text(semconv.LIMIT_SCOPE), attributes.text(semconv.LIMIT_MEMCG_PATH)
    host = attributes.numbers(semconv.HOST_MEMORY)
    if scope is None and path is None and not host:
        return
    yield page.heading("Limit")
    owner = _SCOPES.get(scope or "") or _unknown_scope(event)
    constraint = _CONSTRAINTS.get(attributes.text(semconv.DECISION_CONSTRAINT) or "")
    yield from page.row("limit of", ", ".join(filter(None, (owner, constraint))), "bold")
    yield from page.row("cgroup", path)
    yield from page.row("unit", attributes.text(semconv.LIMIT_SYSTEMD_UNIT))
    setting = attributes.text(semconv.LIMIT_SYSTEMD_SETTING)
    file = attributes.text(semconv.LIMIT_SYSTEMD_FILE)
    yield from page.row("set by", f"{setting} in {file}" if setting else None)
    if path is not None:
        yield from _memcg(event)
    if scope in {"pod", "ancestor"}:
        yield from page.row("victim's own", _victim_usage(event))
    yield from _host(host, event, hit=scope == "host")


def _unknown_scope(event: DecodedEvent) -> str:
    if event.attributes.text(semconv.LIMIT_MEMCG_PATH):
        return "a cgroup"
    by_memcg = event.attributes.text(semconv.DECISION_ORIGIN) == "memcg"
    return "an unknown cgroup" if by_memcg else "unknown"


def _memcg(event: DecodedEvent) -> Iterator[RenderableType]:
    attributes = event.attributes
    limit = attributes.integer(semconv.LIMIT_MEMCG_LIMIT)
    usage = attributes.integer(semconv.LIMIT_MEMCG_USAGE)
    if limit is not None and usage is not None:
        yield _usage("usage", usage, limit)
    delay_s = attributes.number(semconv.SNAPSHOT_DELAY)
    stat = attributes.numbers(semconv.LIMIT_MEMCG_STAT)
    if delay_s is not None and stat:
        # By then the victim may have freed all of its memory.
        delay = f"{delay_s * MS_PER_S:.1f} ms"
        yield from page.row("breakdown", f"(read {delay} after the kill)", "dim")
    yield from _breakdown(stat, limit or usage or 0)
    yield from page.row("swap", _swap(event))
    yield from page.row("events", _events(attributes.numbers(semconv.LIMIT_MEMCG_EVENTS)))
    yield from page.row("pressure", _pressure(attributes.numbers(semconv.LIMIT_MEMCG_PRESSURE)))


def _swap(event: DecodedEvent) -> str | None:
    attributes = event.attributes
    usage = attributes.integer(semconv.LIMIT_MEMCG_SWAP_USAGE)
    limit = attributes.integer(semconv.LIMIT_MEMCG_SWAP_LIMIT)
    host_swap = attributes.numbers(semconv.HOST_MEMORY).get("swap_total")
    if usage is None or host_swap == 0:
        return None
    if not limit:
        return f"{format_bytes(usage)}, {'swap is disabled' if limit == 0 else 'no limit'}"
    return f"{format_bytes(usage)} of {format_bytes(limit)} (cgroup v1: memory and swap together)"


def _usage(label: str, usage: float, limit: float) -> RenderableType:
    share = f" ({usage / limit:.0%})" if limit else ""
    text = f"{format_bytes(int(usage))} of {format_bytes(int(limit))}{share}"
    return page.bar(label, usage, limit, text, "red" if usage >= limit * _ALMOST_FULL else "yellow")


def _breakdown(stat: Mapping[str, float], whole: float) -> Iterator[RenderableType]:
    # "kernel", where the kernel reports it, includes these two.
    included = {"slab_unreclaimable", "sock"} if "kernel" in stat else set()
    for name, label in {**_PARTS, **_PARTS_OF_FILES}.items():
        part = stat.get(name, 0)
        if part and name not in included:
            yield page.bar(f"  {label}", part, whole, format_bytes(int(part)))


def _victim_usage(event: DecodedEvent) -> str | None:
    attributes = event.attributes
    usage = attributes.integer(semconv.VICTIM_MEMCG_USAGE)
    limit = attributes.integer(semconv.VICTIM_MEMCG_LIMIT)
    if usage is None:
        return None
    if not limit:
        return f"{format_bytes(usage)}, no limit"
    return f"{format_bytes(usage)} of its own limit of {format_bytes(limit)}"


def _host(host: Mapping[str, float], event: DecodedEvent, *, hit: bool) -> Iterator[RenderableType]:
    total, available = host.get("total"), host.get("available")
    if not total or available is None:
        return
    text = f"{format_bytes(int(available))} of {format_bytes(int(total))} available"
    yield page.bar("host", total - available, total, text, "red" if hit else "")
    if hit:
        yield from _breakdown(host, total)
        swap_total, swap_free = host.get("swap_total"), host.get("swap_free")
        if swap_total and swap_free is not None:
            yield _usage("swap", swap_total - swap_free, swap_total)
        yield from page.row("pressure", _pressure(event.attributes.numbers(semconv.HOST_PRESSURE)))


def _events(events: Mapping[str, float]) -> str:
    return ", ".join(
        text.format(int(events[name])) for name, text in _EVENTS.items() if events.get(name)
    )


def _pressure(shares: Mapping[str, float]) -> str | None:
    some, full = shares.get("some.avg10"), shares.get("full.avg10")
    if some is None or full is None:
        return None
    return f"in the last 10 s, some tasks stalled {some:g} % of the time, all tasks {full:g} %"
