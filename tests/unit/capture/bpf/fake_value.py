"""A value of an array map, without a kernel."""

from __future__ import annotations

from collections.abc import Callable

from otel_oom.capture.bpf.maps import MappedValue


class FakeValue(MappedValue):
    """The bytes that ``load`` returns at each read; ``store`` gets those that are written."""

    def __init__(
        self, load: Callable[[], bytes], store: Callable[[bytes], None] = lambda _: None
    ) -> None:
        self._load = load
        self._store = store

    def read(self, offset: int, size: int) -> bytes:
        return self._load()[offset : offset + size]

    def wipe(self) -> None:
        self._store(bytes(len(self._load())))

    def __exit__(self, *_: object) -> None:
        pass
