"""Enrichment of a kill."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.model.types import Memcg
from tests.testlib.samples.events import (
    KILL,
    sample_enriched_kill,
)


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/web.service", "web.service"),
        ("/shop.slice", "shop.slice"),
        ("/user.slice/user-1000.slice/user@1000.service", "user@1000.service"),
        # Their files are in that user's home, and not the host's of the same name.
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", None),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice", None),
        ("/system.slice/web.service/worker", None),
        ("/docker/0123", None),
    ],
)
def test_limit_setting_is_that_of_the_system_unit_with_the_limit(
    monkeypatch: pytest.MonkeyPatch, path: str, unit: str | None
) -> None:
    searched: list[tuple[str, int]] = []
    monkeypatch.setattr(
        "otel_oom.enrich.event.find_memory_setting", lambda *args: searched.append(args)
    )
    assert KILL.decision
    sample_enriched_kill(decision=replace(KILL.decision, memcg=Memcg(id=41, path=path)))
    assert searched == ([(unit, 64 << 20)] if unit else [])
