"""Approaches of a limit, of folders that look like cgroups of version 2."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.model.near_limit import NearLimit
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.units import MIB, NS_PER_S
from otel_oom.snapshot.usage import near_limit
from otel_oom.snapshot.usage.near_limit import NearLimitWatch
from otel_oom.snapshot.usage.sampler import UsageSampler
from tests.testlib.fake_cgroups import FakeCgroups


class Watched:
    """Cgroups below a folder, and what was recorded of them."""

    def __init__(self, folder: Path, max_open: int) -> None:
        self.cgroups = FakeCgroups(folder)
        mount = CgroupMount(folder, "/", v1=False)
        self.sampler = UsageSampler(mount, 5 * NS_PER_S, 121, max_open=max_open)
        self.recorded: list[tuple[NearLimit, Snapshot]] = []
        self.watch = NearLimitWatch(
            mount, self.sampler, 90, lambda *recorded: self.recorded.append(recorded)
        )
        self.tick = 0

    def run(self, rounds: int = 1, *, paused: bool = False) -> list[str]:
        """Sample and check; return the paths that were recorded meanwhile."""
        self.recorded.clear()
        for _ in range(rounds):
            self.tick += 1
            self.sampler.sample(self.tick, lambda: False)
            self.watch.check(self.sampler.list_sampled(), lambda: paused)
        return [event.memcg.path for event, _ in self.recorded]


@pytest.fixture
def watched(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """Return the cgroups; a parameter of the test is how many files stay open."""
    watched = Watched(tmp_path, getattr(request, "param", 256))
    yield watched
    watched.sampler.close()


def test_an_approach_is_recorded_once_until_usage_fell_well_below(watched: Watched) -> None:
    watched.cgroups.make("job", 50, limit_mib=100)
    assert watched.run(3) == []
    watched.cgroups.use("job", 89)
    assert watched.run() == []
    watched.cgroups.use("job", 90)
    assert watched.run() == ["/job"]
    ((event, snapshot),) = watched.recorded
    assert event.memcg_usage.limit == 100 * MIB
    assert event.memcg_usage.usage == event.working_set == 90 * MIB
    assert event.threshold_percent == 90
    assert snapshot.usage_history
    assert snapshot.usage_history.limit
    values = [value // MIB for value in snapshot.usage_history.limit.values]
    assert values[-4:] in ([50, 89, 90, 90], [50, 50, 89, 90])
    for usage_mib in (99, 85, 95, 81, 99):
        watched.cgroups.use("job", usage_mib)
        assert watched.run() == []
    watched.cgroups.use("job", 79)
    assert watched.run() == []
    watched.cgroups.use("job", 92)
    assert watched.run() == ["/job"]


def test_inactive_page_cache_does_not_count_and_is_read_again_after_a_minute(
    watched: Watched,
) -> None:
    watched.cgroups.make("job", 99, limit_mib=100)
    watched.cgroups.cache("job", 40)
    assert watched.run(5) == []
    watched.cgroups.cache("job", 5)
    assert watched.run(3) == []
    assert watched.run(12) == ["/job"]
    ((event, _),) = watched.recorded
    assert event.working_set == 94 * MIB


def test_only_the_cgroup_with_the_limit_is_near_it(watched: Watched) -> None:
    watched.cgroups.make("pod", 95, limit_mib=100)
    watched.cgroups.make("pod/app", 95)
    assert watched.run(5) == ["/pod"]


def test_nothing_is_recorded_while_a_kill_is(watched: Watched) -> None:
    watched.cgroups.make("job", 95, limit_mib=100)
    assert watched.run(5, paused=True) == []
    assert watched.run() == ["/job"]


def test_many_approaches_at_once_are_spread_over_rounds(watched: Watched) -> None:
    for number in range(10):
        watched.cgroups.make(f"job{number}", 95, limit_mib=100)
    rounds = [watched.run() for _ in range(10)]
    assert max(map(len, rounds)) == 4
    paths = [path for paths in rounds for path in paths]
    assert sorted(paths) == sorted(f"/job{number}" for number in range(10))


def test_a_hostile_name_of_a_cgroup_stops_nothing(watched: Watched) -> None:
    """A name that is not UTF-8 can't be sent as it is; one with a newline can."""
    watched.cgroups.make(os.fsdecode(b"job\xff"), 95, limit_mib=100)
    watched.cgroups.make("job\n2", 95, limit_mib=100)
    watched.cgroups.make("job3", 95, limit_mib=100)
    paths = watched.run(4)
    assert {"/job\n2", "/job3"} <= set(paths)
    for event, snapshot in watched.recorded:
        assert msgspec.json.encode(event)
        assert msgspec.json.encode(snapshot)


def test_cgroups_that_cannot_be_read_do_not_take_the_turns_of_others(watched: Watched) -> None:
    """The names are no UTF-8, so their paths in events lead nowhere."""
    for number in range(6):
        watched.cgroups.make(os.fsdecode(b"\xff%d" % number), 99, limit_mib=100)
    assert watched.run(2) == []
    watched.cgroups.make("job", 95, limit_mib=100)
    assert watched.run(2) == ["/job"]


@pytest.mark.parametrize("watched", [1, 256], indirect=True)
def test_cgroups_full_of_page_cache_do_not_take_the_turns_of_others(watched: Watched) -> None:
    """More than can be examined before the first of them is due again."""
    for number in range(60):
        watched.cgroups.make(f"cache{number}", 99, limit_mib=100)
        watched.cgroups.cache(f"cache{number}", 50)
    assert watched.run(16) == []
    watched.cgroups.make("job", 95, limit_mib=100)
    assert watched.run(2) == ["/job"]


def test_a_holder_with_many_flapping_cgroups_does_not_take_the_turns_of_others(
    watched: Watched,
) -> None:
    loud = [f"loud/{number}" for number in range(8)]
    for path in loud:
        watched.cgroups.make(path, 95, limit_mib=100)
    watched.run(3)
    for path in loud:
        watched.cgroups.use(path, 50)
    watched.run(2)
    for path in loud:
        watched.cgroups.use(path, 95)
    for name in ("web", "db"):
        watched.cgroups.make(name, 95, limit_mib=100)
    assert {"/web", "/db"} <= set(watched.run(2))


def test_the_events_of_a_holder_are_bounded_a_minute_and_the_others_are_logged(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now_ns = 6000 * NS_PER_S
    monkeypatch.setattr(near_limit, "boottime_ns", lambda: now_ns)
    watched.cgroups.make("loud/job", 50, limit_mib=100)
    watched.cgroups.make("web", 50, limit_mib=100)
    watched.run(3)
    paths = []
    for _ in range(7):
        watched.cgroups.use("loud/job", 95)
        paths += watched.run()
        watched.cgroups.use("loud/job", 50)
        paths += watched.run()
    assert paths == ["/loud/job"] * 4
    watched.cgroups.use("web", 95)
    assert watched.run() == ["/web"]
    assert caplog.messages == []
    now_ns += 60 * NS_PER_S
    watched.cgroups.use("loud/job", 95)
    assert watched.run() == ["/loud/job"]
    assert caplog.messages == [
        "Memory near limits: events dropped: dropped=3 holders=1 most=3 of /loud"
    ]
