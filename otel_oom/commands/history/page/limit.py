"""The limit that was hit, of a cgroup or of the host, with a breakdown of its usage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from otel_oom.commands.elements import Bar, Element, Section, known_facts
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


def describe_limit(event: DecodedEvent) -> Section | None:
    """Return the section; ``None`` if no limit is known."""
    attributes = event.attributes
    scope, path = attributes.text(semconv.LIMIT_SCOPE), attributes.text(semconv.LIMIT_MEMCG_PATH)
    host = attributes.numbers(semconv.HOST_MEMORY)
    if scope is None and path is None and not host:
        return None
    return Section("limit", "Limit", tuple(_elements(event, scope, path, host)))


def _elements(
    event: DecodedEvent, scope: str | None, path: str | None, host: Mapping[str, float]
) -> Iterator[Element]:
    attributes = event.attributes
    owner = _SCOPES.get(scope or "") or _unknown_scope(event)
    constraint = _CONSTRAINTS.get(attributes.text(semconv.DECISION_CONSTRAINT) or "")
    yield from known_facts("limit of", ", ".join(filter(None, (owner, constraint))), "strong")
    yield from known_facts("cgroup", path)
    yield from known_facts("unit", attributes.text(semconv.LIMIT_SYSTEMD_UNIT))
    setting = attributes.text(semconv.LIMIT_SYSTEMD_SETTING)
    file = attributes.text(semconv.LIMIT_SYSTEMD_FILE)
    yield from known_facts("set by", f"{setting} in {file}" if setting else None)
    if path is not None:
        yield from _memcg(event)
    if scope in {"pod", "ancestor"}:
        yield from known_facts("victim's own", _victim_usage(event))
    yield from _host(host, event, hit=scope == "host")


def _unknown_scope(event: DecodedEvent) -> str:
    if event.attributes.text(semconv.LIMIT_MEMCG_PATH):
        return "a cgroup"
    by_memcg = event.attributes.text(semconv.DECISION_ORIGIN) == "memcg"
    return "an unknown cgroup" if by_memcg else "unknown"


def _memcg(event: DecodedEvent) -> Iterator[Element]:
    attributes = event.attributes
    limit = attributes.integer(semconv.LIMIT_MEMCG_LIMIT)
    usage = attributes.integer(semconv.LIMIT_MEMCG_USAGE)
    if limit is not None and usage is not None:
        yield _usage("usage", usage, limit)
    stat = attributes.numbers(semconv.LIMIT_MEMCG_STAT)
    if stat:
        yield from known_facts("breakdown", _delay(event), "muted")
    yield from _breakdown(stat, limit or usage or 0)
    yield from known_facts("swap", _swap(event))
    yield from known_facts("events", _events(attributes.numbers(semconv.LIMIT_MEMCG_EVENTS)))
    yield from known_facts("pressure", _pressure(attributes.numbers(semconv.LIMIT_MEMCG_PRESSURE)))


def _delay(event: DecodedEvent) -> str | None:
    """Return the delay of the statistics: by then the victim may have freed all of its memory."""
    delay_s = event.attributes.number(semconv.SNAPSHOT_DELAY)
    return None if delay_s is None else f"(read {delay_s * MS_PER_S:.1f} ms after the kill)"


def _swap(event: DecodedEvent) -> str | None:
    attributes = event.attributes
    usage = attributes.integer(semconv.LIMIT_MEMCG_SWAP_USAGE)
    limit = attributes.integer(semconv.LIMIT_MEMCG_SWAP_LIMIT)
    host_swap = attributes.numbers(semconv.HOST_MEMORY).get("swap_total")
    if usage is None or host_swap == 0:
        return None
    if not limit:
        return f"{format_bytes(usage)}, {'swap is disabled' if limit == 0 else 'no limit'}"
    memory = attributes.integer(semconv.LIMIT_MEMCG_USAGE) or 0
    # Less than the memory: of cgroup v2. More may be of either version.
    note = " (cgroup v1: memory and swap together)" if usage >= memory else ""
    return f"{format_bytes(usage)} of {format_bytes(limit)}{note}"


def _usage(label: str, usage: float, limit: float) -> Element:
    share = f" ({usage / limit:.0%})" if limit else ""
    text = f"{format_bytes(int(usage))} of {format_bytes(int(limit))}{share}"
    return Bar(label, usage, limit, text, "alarm" if usage >= limit * _ALMOST_FULL else "warning")


def _breakdown(stat: Mapping[str, float], whole: float) -> Iterator[Element]:
    # "kernel", where the kernel reports it, includes these two.
    included = {"slab_unreclaimable", "sock"} if "kernel" in stat else set()
    for name, label in {**_PARTS, **_PARTS_OF_FILES}.items():
        part = stat.get(name, 0)
        if part and name not in included:
            yield Bar(label, part, whole, format_bytes(int(part)), detail=True)


def _victim_usage(event: DecodedEvent) -> str | None:
    attributes = event.attributes
    usage = attributes.integer(semconv.VICTIM_MEMCG_USAGE)
    limit = attributes.integer(semconv.VICTIM_MEMCG_LIMIT)
    if usage is None:
        return None
    if not limit:
        return f"{format_bytes(usage)}, no limit"
    return f"{format_bytes(usage)} of its own limit of {format_bytes(limit)}"


def _host(host: Mapping[str, float], event: DecodedEvent, *, hit: bool) -> Iterator[Element]:
    total, available = host.get("total"), host.get("available")
    if not total or available is None:
        return
    if hit:
        yield from known_facts("memory", _delay(event), "muted")
    text = f"{format_bytes(int(available))} of {format_bytes(int(total))} available"
    yield Bar("host", total - available, total, text, "alarm" if hit else "")
    if hit:
        yield from _breakdown(host, total)
        swap_total, swap_free = host.get("swap_total"), host.get("swap_free")
        if swap_total and swap_free is not None:
            yield _usage("swap", swap_total - swap_free, swap_total)
        yield from known_facts(
            "pressure", _pressure(event.attributes.numbers(semconv.HOST_PRESSURE))
        )


def _events(events: Mapping[str, float]) -> str:
    return ", ".join(
        text.format(int(events[name])) for name, text in _EVENTS.items() if events.get(name)
    )


def _pressure(shares: Mapping[str, float]) -> str | None:
    some, full = shares.get("some.avg10"), shares.get("full.avg10")
    if some is None or full is None:
        return None
    return f"in the last 10 s, some tasks stalled {some:g} % of the time, all tasks {full:g} %"
