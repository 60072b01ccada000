"""Enrichment of a kill."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from otel_oom.enrich.event import enrich_dropped_events, limit_scope
from otel_oom.enrich.stack_analysis import StackAnalysis
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.linux.process import ProcessDir, memory_cgroup_path
from otel_oom.model.snapshot import Container, EventContainers
from otel_oom.model.types import Memcg, Task
from tests.testlib.samples.events import (
    CONTAINER_ID,
    DROPPED,
    HOST,
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


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [("/system.slice/web.service", ("/srv/app",)), (f"/docker/{CONTAINER_ID}", ())],
)
def test_the_path_of_a_program_in_a_dead_container_is_not_searched_on_the_host(
    monkeypatch: pytest.MonkeyPatch, cgroup: str, expected: tuple[str, ...]
) -> None:
    searched: list[tuple[str, ...]] = []

    def symbolize(*arguments: Any) -> tuple[str, ...]:  # noqa: ANN401  as of the real one
        searched.append(arguments[2])
        return ("main+0x1",)

    monkeypatch.setattr(UserSymbolizer, "symbolize", symbolize)
    sample_enriched_kill(
        trigger=Task(1 << 22),
        trigger_memcg=Memcg(1, cgroup),
        victim=replace(KILL.victim, executable="/srv/app"),
    )
    assert searched == [expected]


@pytest.mark.parametrize("is_reused", [False, True])
def test_the_files_of_another_process_with_the_triggers_pid_are_not_searched(
    monkeypatch: pytest.MonkeyPatch, *, is_reused: bool
) -> None:
    """Its owner could give them build ids of the trigger's, and so name its functions."""
    stat = ProcessDir("self").read_stat()
    assert stat
    assert stat.start_boottime_ns
    start_ns = stat.start_boottime_ns + (10**9 if is_reused else 5)
    cgroup = memory_cgroup_path(Path("/proc/self/cgroup").read_text(encoding="utf-8"))
    path = "/another" if is_reused else cgroup
    searched: list[Path] = []

    def symbolize(*arguments: Any) -> tuple[str, ...]:  # noqa: ANN401  as of the real one
        searched.extend(arguments[3])
        return ("main+0x1",)

    monkeypatch.setattr(UserSymbolizer, "symbolize", symbolize)
    expected = [] if is_reused else [Path(f"/proc/{os.getpid()}/root")]
    for memcg in (Memcg(1, path), None) if path else (None,):
        searched.clear()
        trigger = Task(os.getpid(), start_boottime_ns=start_ns)
        sample_enriched_kill(trigger=trigger, trigger_memcg=memcg)
        assert searched == expected


UUID = "0f5c9b1e-7a60-4f0c-9c2d-2a6a1c0f9b11"
UNDERSCORED = UUID.replace("-", "_")
UNKNOWN = StackAnalysis(None, None, None)


@pytest.mark.parametrize(
    ("hit", "own", "expected"),
    [
        ("/a/b", "/a/b", "own"),
        ("/a", "/a/b", "ancestor"),
        ("/", "/a/b", "ancestor"),
        ("/a", "/ab", None),
        (None, "/a", "host"),
        (f"/kubepods/burstable/pod{UUID}", f"/kubepods/burstable/pod{UUID}/0123", "pod"),
        (f"/kubepods/pod{UUID}", f"/kubepods/pod{UUID}/0123", "pod"),
        ("/kubepods/burstable", f"/kubepods/burstable/pod{UUID}/0123", "ancestor"),
        (
            f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice",
            f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/cri-containerd-0.scope",
            "pod",
        ),
        (
            "/kubepods.slice/kubepods-besteffort-pod0123456789abcdef0123456789abcdef.slice",
            "/kubepods.slice/kubepods-besteffort-pod0123456789abcdef0123456789abcdef.slice/x",
            "pod",
        ),
        # A user names the cgroups below its manager as it likes.
        (
            "/user.slice/user-7.slice/user@7.service/pod0123456789abcdef0123456789abcdef",
            "/user.slice/user-7.slice/user@7.service/pod0123456789abcdef0123456789abcdef/x",
            "ancestor",
        ),
    ],
)
def test_limit_scope_follows_from_the_paths(
    hit: str | None, own: str, expected: str | None
) -> None:
    assert KILL.decision is not None
    decision = replace(
        KILL.decision,
        memcg=None if hit is None else Memcg(1, hit),
        constraint="none" if hit is None else "memcg",
    )
    kill = replace(KILL, decision=decision, memcg=Memcg(2, own))
    assert limit_scope(kill, UNKNOWN) == expected


def test_limit_scope_without_a_decision_follows_the_stack() -> None:
    kill = replace(KILL, decision=None)
    assert limit_scope(kill, StackAnalysis("host", None, None)) == "host"
    assert limit_scope(kill, StackAnalysis("memcg", None, None)) is None


def test_limit_scope_of_an_unknown_cgroup_is_unknown() -> None:
    assert KILL.decision is not None
    for constraint in ("memcg", None):
        decision = replace(KILL.decision, memcg=None, constraint=constraint)
        assert limit_scope(replace(KILL, decision=decision), UNKNOWN) is None


def test_limit_scope_of_a_cut_path_is_unknown() -> None:
    assert limit_scope(replace(KILL, memcg=Memcg(2, "…/docker/x", path_cut=True)), UNKNOWN) is None


@pytest.mark.parametrize(
    ("holder", "expected"),
    [
        (DROPPED.holder, {"container.id": CONTAINER_ID, "container.name": "web"}),
        (f"/kubepods/pod{UUID}", {"k8s.pod.uid": UUID, "k8s.pod.name": "shop"}),
        # The container is one of many of that user.
        ("/user.slice/user-1000.slice", {}),
        ("", {}),
    ],
)
def test_the_resource_of_drops_is_their_holder(holder: str, expected: dict[str, str]) -> None:
    annotations = {"io.kubernetes.pod.name": "shop", "io.kubernetes.container.name": "web"}
    container = Container(CONTAINER_ID, name="web", annotations=annotations)
    event = replace(DROPPED, holder=holder)
    resource = enrich_dropped_events(event, 0, HOST, EventContainers(container)).resource
    prefixes = ("container.", "k8s.pod.", "k8s.container.")
    found = {k: v for k, v in resource.items() if k.startswith(prefixes)}
    if expected and "container.id" in expected:
        found = {name: found[name] for name in expected}
    assert found == expected
    assert resource["host.name"] == "node-1"
