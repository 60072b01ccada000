"""The series of a kill, from the samples before it."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.enrich.growth import classify_growth
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.clock import boottime_ns
from otel_oom.model.snapshot import HostMemory
from otel_oom.model.types import Memcg, MemcgUsage
from otel_oom.model.units import MIB, NS_PER_S
from otel_oom.model.usage import UsageHistory
from otel_oom.snapshot.usage.crossings import CrossingWatch
from otel_oom.snapshot.usage.history import build_kill_history
from otel_oom.snapshot.usage.sampler import UsageSampler
from tests.testlib.fake_cgroups import FakeCgroups
from tests.testlib.samples.events import DECISION, sample_kill

INTERVAL_NS = 5 * NS_PER_S
HOST = HostMemory({"total": 8 << 30, "available": 3 << 30})


class Recorded:
    """Cgroups, and the samples of them."""

    def __init__(self, folder: Path) -> None:
        self.cgroups = FakeCgroups(folder)
        self.sampler = UsageSampler(CgroupMount(folder, "/", v1=False), INTERVAL_NS, 121)
        self.epoll = select.epoll()
        self.crossings = CrossingWatch(
            self.epoll, lambda node: node.folder, self.sampler.holder_of, v1=False
        )

    def close(self) -> None:
        self.sampler.close()
        self.crossings.close()
        self.epoll.close()

    def sample(self, *ticks: int) -> None:
        for tick in ticks:
            self.sampler.sample(tick, lambda: False)

    def history(
        self, at_s: float, limit: str = "/pod", victim: str = "/pod/app", usage_mib: int = 100
    ) -> UsageHistory:
        usage = MemcgUsage(limit=100 * MIB, usage=usage_mib * MIB, swap_limit=None, swap_usage=None)
        kill = sample_kill(
            boottime_ns=int(at_s * NS_PER_S),
            memcg=Memcg(None, victim),
            memcg_usage=replace(usage, limit=None, usage=(usage_mib - 10) * MIB),
            decision=replace(DECISION, memcg=Memcg(None, limit), memcg_usage=usage),
        )
        return build_kill_history(self.sampler, self.crossings, kill, HOST)


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    recorded = Recorded(tmp_path)
    recorded.cgroups.make("pod", 10, limit_mib=100)
    recorded.cgroups.make("pod/app", 5)
    recorded.sample(0, 1, 2)
    yield recorded
    recorded.close()


def test_the_curve_reaches_the_limit_at_the_kill(recorded: Recorded) -> None:
    for tick in range(3, 13):
        recorded.cgroups.use("pod", 8 * tick)
        recorded.cgroups.use("pod/app", 4 * tick)
        recorded.sample(tick)
    history = recorded.history(at_s=62)
    limit, victim, host = history.limit, history.victim, history.host
    assert limit
    assert victim
    assert host
    growth = [8 * tick * MIB for tick in range(3, 13)]
    assert list(limit.values[-11:]) == [*growth, 100 * MIB]
    assert (limit.path, limit.limit, limit.interval_ns) == ("/pod", 100 * MIB, INTERVAL_NS)
    assert limit.end_boottime_ns == 62 * NS_PER_S
    assert [time // NS_PER_S for time in limit.times_boottime_ns[-3:]] == [55, 60, 62]
    assert list(victim.values[-11:]) == [*(value // 2 for value in growth), 90 * MIB]
    # That of the victim is the limit above it.
    assert (victim.path, victim.limit) == ("/pod/app", 100 * MIB)
    assert (host.path, host.limit, host.values[-1]) == (None, 8 << 30, 5 << 30)
    assert limit.max_gap_ns == victim.max_gap_ns == INTERVAL_NS


def test_a_victim_in_the_cgroup_of_the_limit_has_one_series(recorded: Recorded) -> None:
    history = recorded.history(at_s=12, victim="/pod")
    assert history.limit
    assert history.victim is None
    assert history.limit.values[-1] == 100 * MIB


def test_another_cgroup_at_the_path_of_the_kill_has_no_part(
    recorded: Recorded, tmp_path: Path
) -> None:
    """As in a cgroup namespace, whose paths are not the host's."""
    pod = tmp_path / "pod"
    for inode, is_known in ((pod.stat().st_ino, True), (tmp_path.stat().st_ino, False)):
        memcg = Memcg(inode, "/pod")
        kill = sample_kill(boottime_ns=12 * NS_PER_S, memcg=memcg, decision=None)
        series = build_kill_history(recorded.sampler, recorded.crossings, kill, HOST).victim
        assert (series is not None) == is_known


def test_samples_of_after_the_kill_are_not_in_its_series(recorded: Recorded) -> None:
    recorded.cgroups.use("pod", 90)
    recorded.sample(3)
    recorded.cgroups.use("pod", 1)
    recorded.sample(4, 5)
    limit = recorded.history(at_s=19).limit
    assert limit
    assert [value // MIB for value in limit.values[-2:]] == [90, 100]
    assert limit.last_interval_ns == 4 * NS_PER_S


def test_without_usage_at_the_mark_the_series_ends_with_the_last_sample(
    recorded: Recorded,
) -> None:
    kill = sample_kill(
        boottime_ns=12 * NS_PER_S,
        memcg=Memcg(None, "/pod/app"),
        memcg_usage=None,
        decision=None,
    )
    history = build_kill_history(recorded.sampler, recorded.crossings, kill, None)
    assert history.limit is None
    assert history.victim
    assert history.host
    assert history.victim.values[-1] == 5 * MIB
    assert history.victim.end_boottime_ns == history.host.end_boottime_ns == 10 * NS_PER_S
    assert history.victim.last_interval_ns is None


def test_a_gap_is_filled_with_the_sample_before_it_and_its_length_is_known(
    recorded: Recorded,
) -> None:
    recorded.cgroups.use("pod", 20)
    recorded.sample(3)
    recorded.cgroups.use("pod", 60)
    recorded.sample(7)
    limit = recorded.history(at_s=36).limit
    assert limit
    assert [value // MIB for value in limit.values[-6:]] == [20, 20, 20, 20, 60, 100]
    assert limit.max_gap_ns == 4 * INTERVAL_NS


def test_a_cgroup_that_was_not_sampled_and_a_cut_path_have_no_series(recorded: Recorded) -> None:
    assert recorded.history(at_s=12, limit="/other").limit is None
    kill = sample_kill(memcg=Memcg(None, "…/pod", path_cut=True), decision=None)
    assert build_kill_history(recorded.sampler, recorded.crossings, kill, HOST).victim is None


def test_the_series_is_bounded(recorded: Recorded) -> None:
    recorded.sample(*range(3, 300))
    limit = recorded.history(at_s=1496).limit
    assert limit
    assert len(limit.values) == 122


def test_a_cgroup_that_was_made_since_the_last_walk_has_its_age(recorded: Recorded) -> None:
    """Its usage at the mark is the only one; it began with nothing."""
    made_ns = boottime_ns()
    recorded.cgroups.make("young", 90, limit_mib=100)
    at_s = (boottime_ns() + 3 * NS_PER_S) / NS_PER_S
    limit = recorded.history(at_s, limit="/young", victim="/young").limit
    assert limit
    assert (limit.values, limit.limit) == ((100 * MIB,), 100 * MIB)
    assert limit.created_boottime_ns is not None
    assert abs(limit.created_boottime_ns - made_ns) < NS_PER_S
    growth = classify_growth(limit, 100 * MIB, limit.end_boottime_ns)
    assert growth.kind == "spike"
    assert recorded.history(at_s, limit="/gone", victim="/gone").limit is None
