"""An event in which every text of a victim tries to break out of an HTML page."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from otel_oom.commands.history.entry import Entry
from otel_oom.otlp.decode import Attributes, DecodedEvent, Value
from tests.testlib.samples import history
from tests.testlib.samples.events import sample_enriched_kill

HOSTILE: Final = (
    "\"'></title></style></pre></details></td><script>window.pwned = 1</script>"
    '<img src="x" onerror="window.pwned = 1"><svg onload="window.pwned = 1">'
    '<meta http-equiv="refresh" content="0; url=https://example.com/"><iframe src="//example.com">'
    "<!--<base href=//example.com>\u202e\u2066\u200f\x00\x1b[31m\n&lt;b&gt;"
)
PWNED: Final = "window.pwned"
"""The property that exists once a script of it has run."""


def hostile_entry(text: str = HOSTILE) -> Entry:
    """Return the sample kill with ``text`` in each of its texts."""
    kill = sample_enriched_kill(original="line 1\nline 2")
    entry = history.entry(kill)
    event: DecodedEvent = entry.event
    hostile = replace(
        event,
        body=event.body + text,
        attributes=_poison(event.attributes, text),
        resource=_poison(event.resource, text),
        span_events=tuple(
            replace(each, attributes=_poison(each.attributes, text)) for each in event.span_events
        ),
    )
    return replace(entry, event=hostile, log_status=f"rejected by {text}")


def _poison(attributes: Attributes, text: str) -> Attributes:
    return Attributes({name: _append(value, text) for name, value in attributes.values.items()})


def _append(value: Value, text: str) -> Value:
    if isinstance(value, tuple):
        texts = [part for part in value if isinstance(part, str)]
        return (*(part + text for part in texts), text) if texts else value
    return value + text if isinstance(value, str) else value
