"""What is known of a container, and the containers that an event is about."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


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
