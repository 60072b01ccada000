"""The queue as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from rich.console import RenderableType

from otel_oom.commands.console import page
from otel_oom.commands.console.page import Head
from otel_oom.commands.history.labels import format_time
from otel_oom.export.result import sanitize_reason
from otel_oom.model.units import NS_PER_S, format_bytes

_MAX_LETTERS: Final = 50
_HEADS: Final = (Head("SIGNAL"), *(Head(name, right=True) for name in ("COUNT", "SIZE", "OLDEST")))


def render_queue(
    backlogs: Sequence[Mapping[str, Any]],
    parked: Mapping[str, int],
    letters: Sequence[Mapping[str, Any]],
    now_unix_ns: int,
) -> Iterator[RenderableType]:
    """Yield what waits for each signal, and the first dead letters."""
    yield page.text(f"Waiting to be sent: {sum(backlog['count'] for backlog in backlogs)}", "bold")
    if backlogs:
        yield page.table(_HEADS, [_cells(backlog, now_unix_ns) for backlog in backlogs], indent=2)
    if count := sum(parked.values()):
        yield page.paragraph(f"of these, the backend keeps rejecting {count} alone: retried later")
    yield page.text(f"Rejected: {len(letters)}", "bold red" if letters else "bold")
    for letter in letters[:_MAX_LETTERS]:
        time = format_time(letter["rejected_unix_ns"])
        yield page.paragraph(f"{letter['uid']}  {letter['signal']:6}  {time}")
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


def _cells(backlog: Mapping[str, Any], now_unix_ns: int) -> tuple[str, ...]:
    count = backlog["count"]
    if not count:
        return backlog["signal"], "0", "-", "-"
    age = timedelta(seconds=max(0, now_unix_ns - backlog["oldest_unix_ns"]) // NS_PER_S)
    return backlog["signal"], str(count), format_bytes(backlog["size"]), str(age)
