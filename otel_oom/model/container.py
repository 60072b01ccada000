"""A container, and the containers of an event."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Container(Struct, frozen=True):
    """A container as its runtime describes it.

    ``id`` has 64 hexadecimal digits. ``image`` is the reference that was requested, with tag and
    digest; ``image_id`` the runtime's own id of it. ``labels`` are those named in the
    configuration, ``annotations`` those of Kubernetes' runtime interface under the runtime's own
    names. Environment and command are left out: they hold secrets. ``error`` is the reason why a
    part is missing.
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

    ``victim`` is the innermost container of the victim, ``host`` the outermost where containers
    are nested. ``trigger`` is the trigger's, where it differs from the victim's.
    """

    victim: Container | None = None
    host: Container | None = None
    trigger: Container | None = None

    @property
    def parts(self) -> tuple[Container | None, Container | None, Container | None]:
        """The containers of victim, host and trigger."""
        return self.victim, self.host, self.trigger
