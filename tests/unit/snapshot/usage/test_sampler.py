"""Sampling of cgroups within its budget; the cgroups are folders that look like cgroup v2."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.model.units import MIB, NS_PER_S, PAGE_BYTES
from otel_oom.snapshot.usage.cgroup_tree import CgroupTree
from otel_oom.snapshot.usage.sampler import UsageSampler
from tests.testlib.fake_cgroups import FakeCgroups

INTERVAL_NS = 5 * NS_PER_S


@pytest.fixture
def cgroups(tmp_path: Path) -> FakeCgroups:
    return FakeCgroups(tmp_path)


@pytest.fixture
def sampler(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[UsageSampler]:
    """Return a sampler; a parameter of the test has its options."""
    options = getattr(request, "param", {})
    sampler = UsageSampler(CgroupMount(tmp_path, "/", v1=False), INTERVAL_NS, 121, **options)
    yield sampler
    sampler.close()


def sample(sampler: UsageSampler, *ticks: int, paused: bool = False) -> None:
    for tick in ticks:
        sampler.sample(tick, lambda: paused)


def values_of(sampler: UsageSampler, path: str, tick: int) -> list[int | None]:
    """Return the samples of a cgroup from the first on, in MiB."""
    node = sampler.find(path)
    if node is None or node.column is None:
        return []
    pages = list(sampler.table.read_column(node.column, tick))
    while pages and pages[0] is None:
        del pages[0]
    return [None if count is None else count * PAGE_BYTES // MIB for count in pages]


def test_a_cgroup_with_a_limit_at_or_above_it_is_sampled_and_no_other(
    cgroups: FakeCgroups, sampler: UsageSampler
) -> None:
    cgroups.make("pod", 30, limit_mib=100)
    cgroups.make("pod/app", 20)
    cgroups.make("free", 40)
    sample(sampler, 1, 2, 3, 4)
    assert values_of(sampler, "/pod", 4)[-2:] == [30, 30]
    assert values_of(sampler, "/pod/app", 4)[-2:] == [20, 20]
    assert values_of(sampler, "/free", 4) == []
    app = sampler.find("/pod/app")
    assert app is not None
    assert app.limit_pages == 100 * MIB // PAGE_BYTES
    assert app.own_limit_pages is None
    assert app.share == pytest.approx(0.2)


def test_what_exists_at_the_start_is_in_the_first_sample(
    cgroups: FakeCgroups, sampler: UsageSampler
) -> None:
    cgroups.make("kubepods", 60, limit_mib=1000)
    cgroups.make("kubepods/pod", 30, limit_mib=100)
    cgroups.make("kubepods/pod/app", 20)
    sampler.walk()
    sample(sampler, 1)
    paths = ("/kubepods", "/kubepods/pod", "/kubepods/pod/app")
    assert [values_of(sampler, path, 1) for path in paths] == [[60], [30], [20]]


@pytest.mark.parametrize("sampler", [{}, {"cpu_share": 0.0}], indirect=True)
def test_a_new_cgroup_is_in_the_next_sample(cgroups: FakeCgroups, sampler: UsageSampler) -> None:
    """Also on an emulated machine, where a round takes more than its budget."""
    cgroups.make("kubepods", 60, limit_mib=1000)
    sample(sampler, 1)
    cgroups.make("kubepods/pod", 30, limit_mib=100)
    cgroups.make("kubepods/pod/app", 20)
    sample(sampler, 2)
    assert values_of(sampler, "/kubepods/pod/app", 2) == [20]


def test_the_host_is_sampled_as_total_minus_available(sampler: UsageSampler) -> None:
    sample(sampler, 1)
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(fields[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    assert sampler.host_column is not None
    (pages,) = sampler.table.read_column(sampler.host_column, 1)[-1:]
    assert pages is not None
    assert sampler.host_pages == total * 1024 // PAGE_BYTES
    used_kib = pages * PAGE_BYTES // 1024
    assert abs(used_kib - (total - available)) < total / 10


def test_a_changed_limit_above_applies_to_those_below_at_once(
    cgroups: FakeCgroups, sampler: UsageSampler
) -> None:
    cgroups.make("pod", 30, limit_mib=100)
    cgroups.make("pod/app", 20)
    # Enough others that the leaf's own turn does not come in each round.
    for number in range(40):
        cgroups.make(f"other{number}", 1, limit_mib=100)
    tick = 0
    for limit_mib in (100, 50, None):
        cgroups.make("pod", 30, limit_mib=limit_mib)
        for _ in range(6):
            tick += 1
            sample(sampler, tick)
            pod, app = sampler.find("/pod"), sampler.find("/pod/app")
            assert (pod and pod.limit_pages) == (app and app.limit_pages)
        assert app is not None
        assert app.limit_pages == (limit_mib and limit_mib * MIB // PAGE_BYTES)


@pytest.mark.parametrize("sampler", [{"cpu_share": 0.0}], indirect=True)
def test_a_cgroup_that_is_made_during_a_long_first_walk_does_not_wait_for_its_end(
    cgroups: FakeCgroups, sampler: UsageSampler
) -> None:
    for number in range(200):
        cgroups.make(f"old/{number}", 1, limit_mib=64)
    assert sampler.tree is not None
    # Without any time, some cgroups are found in each round.
    sampler.tree.visit(lambda: False)
    cgroups.make("new", 5, limit_mib=64)
    sampler.tree.visit(lambda: False)
    assert not sampler.tree.is_complete
    node = sampler.find("/new")
    assert node is not None
    assert node.own_limit_pages == 64 * MIB // PAGE_BYTES
    sample(sampler, 1)
    assert values_of(sampler, "/new", 1) == [5]


def test_a_limit_that_is_set_after_the_cgroup_was_made_counts(
    cgroups: FakeCgroups, sampler: UsageSampler
) -> None:
    sample(sampler, 1, 2)
    cgroups.make("job", 5)
    sample(sampler, 3)
    cgroups.make("job", 5, limit_mib=64)
    sample(sampler, 4, 5)
    assert values_of(sampler, "/job", 5) == [5, 5]


def test_a_cgroup_that_is_gone_keeps_its_samples_for_a_minute_and_a_new_one_has_its_own(
    cgroups: FakeCgroups, sampler: UsageSampler
) -> None:
    cgroups.make("job", 7, limit_mib=64)
    sample(sampler, 1, 2, 3, 4)
    before = values_of(sampler, "/job", 4)
    assert before[-1] == 7
    cgroups.remove("job")
    sample(sampler, 5, 6, 7)
    assert values_of(sampler, "/job", 7)[: len(before)] == before
    cgroups.make("job", 9, limit_mib=64)
    sample(sampler, 8, 9, 10)
    assert set(values_of(sampler, "/job", 10)) == {9}
    cgroups.remove("job")
    sample(sampler, *range(11, 40))
    assert sampler.find("/job") is None


def test_cgroups_that_are_gone_are_freed_without_the_garbage_collector(
    cgroups: FakeCgroups, sampler: UsageSampler
) -> None:
    """A collection with all cgroups would take milliseconds, in which a kill waits."""
    cgroups.make("pod", 30, limit_mib=100)
    cgroups.make("pod/app", 20)
    sample(sampler, 1)
    pod, app = sampler.find("/pod"), sampler.find("/pod/app")
    assert not gc.is_tracked(pod)
    cgroups.remove("pod/app")
    cgroups.remove("pod")
    sample(sampler, *range(2, 40))
    assert sampler.find("/pod") is None
    # The variable here, the argument, and the parent of the other.
    assert (sys.getrefcount(pod), sys.getrefcount(app)) == (3, 2)


def test_a_path_outside_of_the_mount_names_no_cgroup(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    sampler = UsageSampler(CgroupMount(tmp_path, "/docker/1", v1=False), INTERVAL_NS, 121)
    sample(sampler, 1, 2)
    assert sampler.find("/docker/1/app") is not None
    assert sampler.find("/docker/1") is not None
    for path in ("/docker/2/app", "/docker/10/app", "/app", "/"):
        assert sampler.find(path) is None
    sampler.close()


@pytest.mark.parametrize("sampler", [{"max_open": 20, "cpu_share": 0.0001}], indirect=True)
def test_the_cgroups_nearest_to_their_limit_are_sampled_each_time_within_the_budget(
    cgroups: FakeCgroups, sampler: UsageSampler
) -> None:
    for number in range(150):
        cgroups.make(f"far/{number}", 1, limit_mib=100)
    for number in range(20):
        cgroups.make(f"near/{number}", 90, limit_mib=100)
    sample(sampler, *range(1, 60))
    far = [values_of(sampler, f"/far/{number}", 59)[-20:] for number in range(150)]
    near = [values_of(sampler, f"/near/{number}", 59)[-20:] for number in range(20)]
    assert near == [[90] * 20] * 20
    assert any(None in samples or len(samples) < 20 for samples in far)
    assert sampler.samples_less
    assert sampler.limited_count == 170
    assert 20 <= sampler.sampled_count < 170


@pytest.mark.parametrize("sampler", [{"cpu_share": 0}], indirect=True)
def test_a_few_cgroups_are_found_and_sampled_whatever_it_costs(
    cgroups: FakeCgroups, sampler: UsageSampler
) -> None:
    """As on a machine where a round without any takes the whole budget."""
    sample(sampler, 1, 2, 3)
    for name in "abc":
        cgroups.make(name, 7, limit_mib=64)
    sample(sampler, *range(4, 20))
    for name in "abc":
        assert values_of(sampler, f"/{name}", 19)[-8:] == [7] * 8


@pytest.mark.parametrize("sampler", [{"max_open": 0}], indirect=True)
def test_sampling_pauses_while_a_kill_is_recorded(
    cgroups: FakeCgroups, sampler: UsageSampler
) -> None:
    cgroups.make("job", 5, limit_mib=64)
    sample(sampler, 1, 2, 3)
    sample(sampler, 4, 5, paused=True)
    sample(sampler, 6)
    assert values_of(sampler, "/job", 6)[-4:] == [5, None, None, 5]


@pytest.mark.parametrize("sampler", [{"max_open": 10}], indirect=True)
def test_open_files_are_bounded_and_closed(cgroups: FakeCgroups, sampler: UsageSampler) -> None:
    for number in range(40):
        cgroups.make(f"job{number}", number, limit_mib=64)
    fds = Path("/proc/self/fd")
    before = len(list(fds.iterdir()))
    sample(sampler, *range(1, 10))
    assert len(list(fds.iterdir())) == before + 10
    assert sorted(node.pages * PAGE_BYTES // MIB for node in sampler.open_nodes) == [*range(30, 40)]
    for number in range(40):
        cgroups.remove(f"job{number}")
    sample(sampler, *range(10, 20))
    for node in list(sampler.open_nodes):
        # A file of a disk stays readable; the kernel's own fails with ENODEV.
        assert sampler.tree is not None
        sampler.tree.remove(node)
    assert len(list(fds.iterdir())) == before


def test_a_cgroup_without_the_memory_controller_stays_in_the_tree(
    cgroups: FakeCgroups, sampler: UsageSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no files of memory. To forget it would list its parent in each round."""
    cgroups.make("box", 30, limit_mib=100)
    (cgroups.root / "box/plain").mkdir()
    sample(sampler, 1, 2)
    listed: list[str] = []
    scan = os.scandir

    def list_folder(path: str) -> Iterator[os.DirEntry[str]]:
        listed.append(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", list_folder)
    sample(sampler, 3, 4, 5, 6)
    assert listed == []
    assert sampler.find("/box/plain")
    (cgroups.root / "box/plain").rmdir()
    sample(sampler, 7, 8)
    assert sampler.find("/box/plain") is None


def test_cgroups_stay_when_their_parent_cannot_be_listed(
    cgroups: FakeCgroups, sampler: UsageSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the agent has too many open files."""
    cgroups.make("box", 30, limit_mib=100)
    sample(sampler, 1, 2)

    def fail(_: str) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    cgroups.make("new", 20, limit_mib=100)
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", fail)
        sample(sampler, 3, 4)
    sample(sampler, 5, 6)
    assert values_of(sampler, "/box", 6)[-6:] == [30] * 6
    assert values_of(sampler, "/new", 6)[-1:] == [20]


@pytest.mark.parametrize("sampler", [{"max_open": 0}], indirect=True)
def test_a_cgroup_that_is_made_again_has_no_samples_of_the_one_before(
    cgroups: FakeCgroups, sampler: UsageSampler
) -> None:
    """Its file is not open, so no read fails."""
    cgroups.make("web.service", 30, limit_mib=100)
    sample(sampler, 1, 2)
    (cgroups.root / "web.service").rename(cgroups.root.with_name(f"{cgroups.root.name}-before"))
    cgroups.make("web.service", 1, limit_mib=100)
    sample(sampler, 3, 4, 5)
    assert {*values_of(sampler, "/web.service", 5)} == {1}


@pytest.mark.parametrize("sampler", [{"max_open": 16, "cpu_share": 1}], indirect=True)
def test_a_holder_has_a_quarter_of_the_open_files_when_others_want_them(
    cgroups: FakeCgroups, sampler: UsageSampler
) -> None:
    """However near to their limit its cgroups are; alone it has them all."""

    def count_open() -> tuple[int, int]:
        loud = sum(sampler.path_of(node).startswith("/loud") for node in sampler.open_nodes)
        return loud, len(sampler.open_nodes)

    for number in range(30):
        cgroups.make(f"loud/{number}", 99, limit_mib=100)
    sample(sampler, *range(1, 5))
    assert count_open() == (16, 16)
    cgroups.make("far", 10, limit_mib=100)
    sample(sampler, *range(5, 10))
    assert count_open() == (16, 16)
    for number in range(5):
        cgroups.make(f"quiet{number}", 60, limit_mib=100)
    sample(sampler, *range(10, 15))
    assert count_open() == (11, 16)
    for number in range(5, 20):
        cgroups.make(f"quiet{number}", 60 + number, limit_mib=100)
    for tick in range(15, 27, 4):
        sample(sampler, *range(tick, tick + 4))
        assert count_open() == (4, 16)
    nearest = {sampler.path_of(node) for node in sampler.open_nodes}
    assert {f"/quiet{number}" for number in range(14, 20)} <= nearest


def test_the_cgroups_of_one_folder_do_not_use_up_the_bound(tmp_path: Path) -> None:
    cgroups = FakeCgroups(tmp_path)
    for number in range(40):
        cgroups.make(f"loud/{number}", 1, limit_mib=100)
    tree = CgroupTree(CgroupMount(tmp_path, "/", v1=False), 40, lambda _: None, lambda _: None)
    tree.visit(lambda: True)
    assert sum(path.startswith(f"{tmp_path}/loud/") for path in tree.nodes) == 10
    cgroups.make("web", 1, limit_mib=100)
    for _ in range(3):
        tree.visit(lambda: True)
    assert f"{tmp_path}/web" in tree.nodes


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENODEV])
def test_a_limit_that_cannot_be_read_stays(
    cgroups: FakeCgroups,
    sampler: UsageSampler,
    monkeypatch: pytest.MonkeyPatch,
    error: int,
) -> None:
    cgroups.make("job", 5, limit_mib=64)
    sample(sampler, 1, 2)
    node = sampler.find("/job")
    assert node is not None
    open_file = os.open

    def fail(path: str, flags: int) -> int:
        if path.endswith("/memory.max"):
            raise OSError(error, os.strerror(error))
        return open_file(path, flags)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fail)
        visits = node.visits
        sample(sampler, *range(3, 9))
        assert node.visits > visits + 1
        assert node.own_limit_pages == node.limit_pages == 64 * MIB // PAGE_BYTES
    cgroups.make("job", 5)
    sample(sampler, *range(9, 15))
    assert node.own_limit_pages is None
