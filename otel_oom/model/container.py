"""What is known of a container, and the containers that an event is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

_TEXT_CHARS: Final = 1024
_MOST_ENTRIES: Final = 64


class Container(Struct, frozen=True):
    """A container as its runtime has it; what is not known is ``None``.

    ``id`` has 64 hexadecimal digits. ``image`` is the image as it was asked for, tag and digest
    included; ``image_id`` the runtime's own id of it. ``labels`` are those that the settings ask
    for. ``annotations`` are those of Kubernetes' runtime interface, under the names that the
    runtime gives them. Neither has anything else of what the runtime keeps: environment and
    command hold secrets. ``error`` is why something is missing.
    """

    id: str
    runtime: str | None = None
    runtime_version: str | None = None
    name: str | None = None
    image: str | None = None
    image_id: str | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    error: str | None = None


class EventContainers(Struct, frozen=True):
    """The containers of an event.

    ``victim`` is the innermost one that the victim was in, ``outer`` the outermost where they are
    nested. ``trigger`` is the trigger's, where that is another than the victim's.
    """

    victim: Container | None = None
    host: Container | None = None
    trigger: Container | None = None

    @property
    def parts(self) -> tuple[Container | None, Container | None, Container | None]:
        """The victim's, the outer one and the trigger's."""
        return self.victim, self.host, self.trigger


def bounded_text(value: object) -> str | None:
    """``value`` if it is a text that says something, of bounded length and encodable in UTF-8."""
    if not isinstance(value, str) or not value:
        return None
    # An escape of JSON can stand for half a character.
    return value[:_TEXT_CHARS].encode("utf-8", "backslashreplace").decode()


def bounded_texts(value: object, keep: Mapping[str, Any] | frozenset[str]) -> dict[str, str]:
    """The entries of the mapping ``value`` whose keys are to be kept and whose values are text."""
    if not isinstance(value, Mapping):
        return {}
    kept = {key: bounded_text(item) for key, item in value.items() if key in keep}
    said = [(key, item) for key, item in kept.items() if item is not None]
    return dict(said[:_MOST_ENTRIES])
