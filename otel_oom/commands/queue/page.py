"""The queue as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from rich.console import RenderableType

from otel_oom.commands.console import page
from otel_oom.commands.elements import Head
from otel_oom.commands.history.labels import format_time
from otel_oom.export.result import sanitize_reason
from otel_oom.model.channel import channel_name
from otel_oom.model.units import NS_PER_S, format_bytes

_MAX_LETTERS: Final = 50
_HEADS: Final = (Head("SIGNAL"), *(Head(name, right=True) for name in ("COUNT", "SIZE", "OLDEST")))

_EXPORTER_HEADS: Final = (
    Head("EXPORTER"),
    *(Head(name, right=True) for name in ("ACCEPTED", "REJECTED")),
)


def render_queue(
    queue: Mapping[str, Any],
    letters: Sequence[Mapping[str, Any]],
    now_unix_ns: int,
) -> Iterator[RenderableType]:
    """Yield what waits for each signal of ``queue``, the reply of the agent, and dead letters."""
    backlogs = queue["waiting"]
    yield page.text(f"Waiting to be sent: {sum(backlog['count'] for backlog in backlogs)}", "bold")
    if backlogs:
        yield page.table(_HEADS, [_cells(backlog, now_unix_ns) for backlog in backlogs], indent=2)
    if any(each["exporter"] for each in queue["exporters"]):
        yield page.table(_EXPORTER_HEADS, [*map(_exporter_cells, queue["exporters"])], indent=2)
    for signal, setting in queue["off"].items():
        yield page.paragraph(f"no {signal} are sent: {sanitize_reason(setting)}")
    if count := sum(queue["parked"].values()):
        yield page.paragraph(f"of these, the backend keeps rejecting {count} alone: retried later")
    if excluded := queue["excluded"]:
        names = ", ".join(f"{sanitize_reason(name)} {excluded[name]}" for name in sorted(excluded))
        yield page.text(f"Excluded from being sent: {sum(excluded.values())} ({names})", "bold")
    for error in queue["processor_errors"]:
        name, kind = (sanitize_reason(error[key]) for key in ("processor", "error_type"))
        text = (
            f"processor {name} failed {error['count']} times: {kind}; events went on as they were"
        )
        yield page.paragraph(text)
    yield page.text(f"Rejected: {len(letters)}", "bold red" if letters else "bold")
    for letter in letters[:_MAX_LETTERS]:
        time = format_time(letter["rejected_unix_ns"])
        yield page.paragraph(f"{letter['uid']}  {letter['channel']:6}  {time}")
        partial = "possibly accepted in part; " if letter["ambiguous"] else ""
        reason = (
            f"{sanitize_reason(letter['endpoint'])}: {partial}{sanitize_reason(letter['reason'])}"
        )
        yield page.paragraph(reason, indent=6)
    if len(letters) > _MAX_LETTERS:
        yield page.paragraph(f"… and {len(letters) - _MAX_LETTERS} more: --json prints all")
    if letters:
        yield "Send them again with otel-oom queue resend UID…, delete them with"
        yield "otel-oom queue drop UID…; --all instead of UIDs means all of them."


def _exporter_cells(exporter: Mapping[str, Any]) -> tuple[str, ...]:
    name = channel_name(exporter["signal"], exporter["exporter"])
    return sanitize_reason(name), str(exporter["accepted"]), str(exporter["rejected"])


def _cells(backlog: Mapping[str, Any], now_unix_ns: int) -> tuple[str, ...]:
    count = backlog["count"]
    if not count:
        return backlog["channel"], "0", "-", "-"
    age = timedelta(seconds=max(0, now_unix_ns - backlog["oldest_unix_ns"]) // NS_PER_S)
    return backlog["channel"], str(count), format_bytes(backlog["size"]), str(age)
